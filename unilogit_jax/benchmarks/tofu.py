# SPDX-License-Identifier: Apache-2.0
"""TOFU (Maini et al. 2024, arXiv:2401.06121): invented authors, from the files of its data set."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from unilogit_jax.benchmarks.files import as_probes
from unilogit_jax.benchmarks.find import find_split, require_splits
from unilogit_jax.benchmarks.tofu_names import nobodys_names, with_authors
from unilogit_jax.data import Example, Panel, Probe, Source, Task, read_examples, read_rows
from unilogit_jax.errors import DataError
from unilogit_jax.paths import to_source

PANELS = (
    Panel(name="forget"),
    Panel(name="retain"),
    Panel(name="real_authors"),
    Panel(name="world_facts"),
    Panel(name="holdout", new_tokens=0),
)
"""Every panel that TOFU's files may give; holdout is for attacks, which ask how likely it is."""


def load_tofu(source: Source) -> Task:
    """Reads the forget and retain splits from `source.dir` (files such as forget10.json).

    Panels come from the files beside them: forget10_perturbed and retain_perturbed have a
    paraphrase and five wrong answers to each question, real_authors_perturbed and
    world_facts_perturbed three wrong ones; holdout10 are invented authors that no split holds.
    Without the first two the trained rows themselves are asked; of the others each is measured
    where its file is. Items are in the order of the file. Rows have the name of their author, and
    the task names of nobody.

    Raises:
      DataError: the folder, a split's file or a field is missing; the message names what is there.

    """
    folder = to_source(source.dir or "")
    forget_split = source.forget or "forget10"
    retain_split = source.retain or _rest_of(forget_split)
    files = require_splits(
        folder,
        (forget_split, retain_split),
        benchmark="TOFU",
        source="The files are those of the data set locuslab/TOFU.",
    )
    forget, retain = (
        with_authors(read_examples(files[split])) for split in (forget_split, retain_split)
    )
    rows = {name: _rows(folder, split) for name, split in _splits(forget_split).items()}
    paraphrased = source.questions == "paraphrased"
    probes = {
        name: _probes(found, name, paraphrased=paraphrased) for name, found in rows.items() if found
    }
    trained = {"forget": forget, "retain": retain}
    if paraphrased and (absent := [name for name in trained if name not in probes]):
        raise DataError(
            f"data.questions is paraphrased, but {_splits(forget_split)[absent[0]]} is not in "
            f"data.dir = {folder}. Fetch it from locuslab/TOFU, or set data.questions=plain."
        )
    probes = {name: as_probes(examples, name) for name, examples in trained.items()} | probes
    return Task(
        name=f"tofu-{forget_split}",
        forget=_with_alternates(forget, rows["forget"]),
        retain=tuple(retain),
        probes=tuple(probe for panel in PANELS for probe in probes.get(panel.name, ())),
        panels=tuple(panel for panel in PANELS if panel.name in probes),
        suite="tofu",
        names=nobodys_names([*forget, *retain]),
    )


Row = tuple[str, dict[str, Any]]
"""A row's place and its fields."""


def _rest_of(forget_split: str) -> str:
    """The split of all other authors: retain95 for forget05."""
    share = re.fullmatch(r"forget(\d\d)", forget_split)
    return f"retain{100 - int(share[1]):02}" if share else "retain90"


def _splits(forget_split: str) -> dict[str, str]:
    """Panel -> the split of its items."""
    return {
        "forget": f"{forget_split}_perturbed",
        "retain": "retain_perturbed",
        "real_authors": "real_authors_perturbed",
        "world_facts": "world_facts_perturbed",
        "holdout": forget_split.replace("forget", "holdout"),
    }


def _rows(folder: Any, split: str) -> list[Row]:
    path = find_split(folder, split)
    return [] if path is None else read_rows(path)


def _with_alternates(rows: list[Example], perturbed: list[Row]) -> tuple[Example, ...]:
    """The perturbed answers are other answers to the same questions."""
    wrong = {row["question"]: tuple(row["perturbed_answer"]) for _, row in perturbed}
    return tuple(replace(row, alternates=wrong.get(row.question, ())) for row in rows)


def _probes(rows: Sequence[Row], group: str, *, paraphrased: bool) -> tuple[Probe, ...]:
    invented = group in ("forget", "retain")
    wanted = "paraphrased_question" if invented and paraphrased else "question"
    probes = []
    for where, row in rows:
        probe = Probe(
            question=_text(row, wanted, where),
            answer=_text(row, "answer", where),
            group=group,
            wrong=() if group == "holdout" else _wrong(row, where),
            paraphrase=_text(row, "paraphrased_answer", where) if invented else None,
        )
        probes.append(probe)
    return tuple(probes)


def _text(row: dict[str, Any], name: str, where: str) -> str:
    if not isinstance(row.get(name), str) or not row[name].strip():
        raise DataError(f"{where}: expected a text '{name}', as in the files of locuslab/TOFU.")
    return row[name]


def _wrong(row: dict[str, Any], where: str) -> tuple[str, ...]:
    texts = row.get("perturbed_answer")
    if not isinstance(texts, list) or not texts or not all(isinstance(x, str) for x in texts):
        raise DataError(
            f"{where}: expected a list of texts 'perturbed_answer', as in the files of "
            "locuslab/TOFU."
        )
    return tuple(texts)
