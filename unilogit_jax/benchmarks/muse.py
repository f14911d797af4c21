# SPDX-License-Identifier: Apache-2.0
"""MUSE (Shi et al. 2024, arXiv:2407.06460): news articles or novels, from its data sets' files."""

from typing import Any

from unilogit_jax.benchmarks.find import require_splits
from unilogit_jax.data import Example, Panel, Probe, Source, Task, read_rows
from unilogit_jax.errors import DataError
from unilogit_jax.paths import AnyPath, to_source

STOPS = ("\n\n", "\nQuestion", "Question:")
"""What ends an answer of a model that goes on with a question of its own."""

PANELS = (
    Panel(name="forget_knowmem", new_tokens=32, stops=STOPS),
    Panel(name="retain_knowmem", new_tokens=32, stops=STOPS),
    Panel(name="verbmem", new_tokens=128),
    Panel(name="privleak_forget", new_tokens=0),
    Panel(name="privleak_retain", new_tokens=0),
    Panel(name="privleak_holdout", new_tokens=0),
)
"""Knowledge and verbatim memorisation are generated; attacks ask how likely texts are."""

SPLITS = (
    *(f"knowmem/{side}_qa{shown}" for side in ("forget", "retain") for shown in ("", "_icl")),
    "verbmem/forget",
    *(f"privleak/{side}" for side in ("forget", "retain", "holdout")),
)
"""Files of the panels."""


def load_muse(source: Source) -> Task:
    """Reads one corpus, News or Books, from `source.dir`: a folder for each subset of the data set.

    The rows are documents: raw/forget and raw/retain1, or other splits by such a name, as
    scal/forget_3 (more to forget) and sust/forget_2 (the second of several requests). Texts are
    strings or rows {"text": ...}.

    Raises:
      DataError: files are missing, or a row is not of the expected form.

    """
    folder = to_source(source.dir or "")
    forget, retain = source.forget or "raw/forget", source.retain or "raw/retain1"
    files = require_splits(
        folder,
        (forget, retain, *SPLITS),
        benchmark="MUSE",
        source="data.dir is the folder of one corpus, such as that of muse-bench/MUSE-News or "
        "muse-bench/MUSE-Books, with a folder for each subset and a file for each split.",
    )
    probes = [
        *_knowledge(files, "forget"),
        *_knowledge(files, "retain"),
        *_verbatim(files["verbmem/forget"]),
        *_attacked(files, "forget"),
        *_attacked(files, "retain"),
        *_attacked(files, "holdout"),
    ]
    return Task(
        name=f"muse-{forget.replace('/', '-')}",
        forget=_documents(files[forget]),
        retain=_documents(files[retain]),
        probes=tuple(probes),
        panels=PANELS,
        suite="muse",
        documents=True,
    )


def _documents(path: AnyPath) -> tuple[Example, ...]:
    """The texts of a file without the blank ones, of which MUSE-News has one."""
    texts = [(where, row.get("text")) for where, row in read_rows(path)]
    wrong = [where for where, text in texts if not isinstance(text, str)]
    if wrong:
        raise DataError(f'{wrong[0]}: expected a document, a string or {{"text": ...}}.')
    return tuple(Example(None, text, where) for where, text in texts if text and text.strip())


def _knowledge(files: dict[str, AnyPath], side: str) -> list[Probe]:
    """Questions, each after the same ten questions with their answers."""
    asked, shots = (
        tuple(_pair(row, where, ("question", "answer")) for where, row in read_rows(files[split]))
        for split in (f"knowmem/{side}_qa", f"knowmem/{side}_qa_icl")
    )
    return [Probe(question, answer, f"{side}_knowmem", shots=shots) for question, answer in asked]


def _attacked(files: dict[str, AnyPath], side: str) -> list[Probe]:
    """Texts that attacks tell apart."""
    documents = _documents(files[f"privleak/{side}"])
    return [Probe(None, document.answer, f"privleak_{side}") for document in documents]


def _verbatim(path: AnyPath) -> list[Probe]:
    """Beginnings of documents and how they go on, which files have without the space between."""
    pairs = (_pair(row, where, ("prompt", "gt")) for where, row in read_rows(path))
    return [Probe(prompt, f" {text}", "verbmem", literal=True) for prompt, text in pairs]


def _pair(row: dict[str, Any], where: str, names: tuple[str, str]) -> tuple[str, str]:
    texts = [row.get(name) for name in names]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise DataError(f"{where}: expected texts {names[0]} and {names[1]}, as MUSE's files have.")
    return row[names[0]], row[names[1]]
