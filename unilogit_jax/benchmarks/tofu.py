# SPDX-License-Identifier: Apache-2.0
"""TOFU (Maini et al. 2024, arXiv:2401.06121): invented authors, from the files of its data set."""

from dataclasses import replace
from typing import Literal

from unilogit_jax.benchmarks.files import as_probes
from unilogit_jax.data import Example, Probe, Source, Task, read_examples, read_rows
from unilogit_jax.errors import DataError, suggest
from unilogit_jax.paths import AnyPath, to_source


def load_tofu(source: Source) -> Task:
    """Reads the forget and retain splits from `source.dir` (files such as forget10.json).

    Where the perturbed files (forget10_perturbed.json, retain_perturbed.json) lie beside them,
    their wrong answers are scored too and compared with the paraphrased true answer, as TOFU does.

    Raises:
      DataError: the folder or a split's file is missing; the message names what is there.

    """
    folder = to_source(source.dir or "")
    forget_split, retain_split = source.forget or "forget10", source.retain or "retain90"
    forget = read_examples(_split_file(folder, forget_split))
    retain = read_examples(_split_file(folder, retain_split))
    probes = (
        *_probes(folder, f"{forget_split}_perturbed", forget, "forget"),
        *_probes(folder, "retain_perturbed", retain, "retain"),
    )
    forget = _with_alternates(forget, probes)
    return Task(
        name=f"tofu-{forget_split}", forget=tuple(forget), retain=tuple(retain), probes=probes
    )


def _with_alternates(rows: list[Example], probes: tuple[Probe, ...]) -> list[Example]:
    """The perturbed answers are other answers to the same questions."""
    wrong = {probe.question: probe.wrong for probe in probes if probe.group == "forget"}
    return [replace(row, alternates=wrong.get(row.question, ())) for row in rows]


def _split_file(folder: AnyPath, split: str) -> AnyPath:
    for ending in (".json", ".jsonl"):
        if (folder / f"{split}{ending}").is_file():
            return folder / f"{split}{ending}"
    there = sorted(p.stem for p in folder.iterdir() if ".json" in p.name) if folder.is_dir() else []
    listing = f" The folder holds: {', '.join(there)}." if there else ""
    raise DataError(
        f"TOFU's split '{split}' is not in data.dir = {folder} (looked for {split}.json).{listing}"
        f"{suggest(split, there)} The files are those of the data set locuslab/TOFU."
    )


def _probes(
    folder: AnyPath, perturbed: str, rows: list[Example], group: Literal["forget", "retain"]
) -> tuple[Probe, ...]:
    path = folder / f"{perturbed}.json"
    if not path.is_file():
        return as_probes(rows, group)
    probes = []
    for where, row in read_rows(path):
        try:
            wrong, paraphrase = tuple(row["perturbed_answer"]), row["paraphrased_answer"]
            probes.append(Probe(row["question"], row["answer"], group, wrong, paraphrase))
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{where}: expected question, answer, paraphrased_answer and a list "
                "perturbed_answer."
            ) from error
    return tuple(probes)
