# SPDX-License-Identifier: Apache-2.0
"""WMDP (Li et al. 2024, arXiv:2403.03218): hazardous knowledge as multiple choice, beside MMLU."""

from collections.abc import Iterable
from typing import Any

from unilogit_jax.benchmarks.choices import LETTERS, lettered, other_letters
from unilogit_jax.benchmarks.find import find_split
from unilogit_jax.data import Example, Panel, Probe, Source, Task, read_rows, read_texts
from unilogit_jax.errors import DataError, suggest
from unilogit_jax.paths import AnyPath, to_source

SUBJECTS = {"bio": "biology", "chem": "chemistry", "cyber": "cybersecurity"}
"""Part of WMDP -> what its questions are said to be about."""


def load_wmdp(source: Source) -> Task:
    """Reads questions and corpora from `source.dir`.

    Questions: wmdp-bio, wmdp-chem, wmdp-cyber (or bio_questions and so on), and MMLU's subjects in
    a folder mmlu; each a file of {"question", "choices", "answer": 0 to 3}, or a folder with such a
    file named test. Every file that is there is measured.

    Corpora: `source.forget` and `source.retain` name some, with commas. "bio" to forget stands for
    bio-forget-corpus and to keep for bio-retain-corpus, anything else is the name of a file in the
    folder, such as wikitext, or a path.

    Raises:
      DataError: a corpus or all questions are missing, or a row is not of that form.

    """
    folder = to_source(source.dir or "")
    probes = [
        probe
        for part, about in SUBJECTS.items()
        for probe in _questions(_part(folder, part), f"wmdp_{part}", about)
    ]
    if not probes:
        raise DataError(
            f"WMDP: data.dir = {folder} holds no questions (looked for wmdp-bio.json and so on). "
            "They are those of the data set cais/wmdp."
        )
    for subject in _mmlu(folder / "mmlu"):
        about = subject.replace("_", " ")
        probes += _questions(_table(folder / "mmlu", subject), "mmlu", about, kind=subject)
    groups = dict.fromkeys(probe.group for probe in probes)
    return Task(
        name=f"wmdp-{(source.forget or '').replace(',', '-')}",
        forget=_corpora(folder, source.forget or "", "forget"),
        retain=_corpora(folder, source.retain or "", "retain"),
        probes=tuple(probes),
        panels=tuple(Panel(name=group, new_tokens=0) for group in groups),
        suite="wmdp",
        documents=True,
    )


def _part(folder: AnyPath, part: str) -> AnyPath | None:
    return _table(folder, f"wmdp-{part}") or _table(folder, f"{part}_questions")


def _table(folder: AnyPath, name: str) -> AnyPath | None:
    """A file of that name, or the file of the split test in a folder of that name."""
    splits = (name, f"{name}/test", f"{name}/test-00000-of-00001")
    return next((path for split in splits if (path := find_split(folder, split))), None)


def _mmlu(folder: AnyPath) -> list[str]:
    """MMLU's subjects, each a file or a folder; "all" holds the others once more."""
    names = {path.name.partition(".")[0] for path in folder.iterdir()} if folder.is_dir() else set()
    return sorted(names - {"", "all"})


def _questions(path: AnyPath | None, group: str, about: str, *, kind: str = "") -> Iterable[Probe]:
    """The prompt of lm-evaluation-harness: no example, no template, one letter as the answer."""
    if path is None:
        return
    for where, row in read_rows(path):
        question, choices, right = _fields(row, where)
        prompt = (
            f"The following are multiple choice questions (with answers) about {about}.\n\n"
            f"{lettered(question.strip(), choices)}\nAnswer:"
        )
        wrong = tuple(f" {letter}" for letter in other_letters(right, len(choices)))
        yield Probe(prompt, f" {LETTERS[right]}", group, wrong=wrong, literal=True, kind=kind)


def _fields(row: dict[str, Any], where: str) -> tuple[str, list[str], int]:
    question, choices, right = row.get("question"), row.get("choices"), row.get("answer")
    if (
        isinstance(question, str)
        and isinstance(choices, (list, tuple))
        and [type(choice) for choice in choices] == [str] * 4
        and type(right) is int
        and 0 <= right < 4
    ):
        return question, list(choices), right
    raise DataError(
        f'{where}: expected {{"question": text, "choices": [4 texts], "answer": 0 to 3}}.'
    )


def _corpora(folder: AnyPath, names: str, what: str) -> tuple[Example, ...]:
    """The documents of the corpora that a text with commas names."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    return tuple(row for name in wanted for row in read_texts(_corpus(folder, name, what)))


def _corpus(folder: AnyPath, name: str, what: str) -> AnyPath:
    full = f"{name}-{what}-corpus" if name in SUBJECTS else name
    for place in (folder / full, to_source(name)):
        if place.is_file():
            return place
    texts = folder / f"{full}.txt"
    found = find_split(folder, full) or (texts if texts.is_file() else None)
    if found is None:
        there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        listing = f" It holds: {', '.join(there)}." if there else ""
        raise DataError(
            f"WMDP: the corpus '{full}' is not in data.dir = {folder} (looked for {full}.jsonl and "
            f"the like).{listing}{suggest(full, [name.partition('.')[0] for name in there])} "
            "Corpora are those of cais/wmdp-corpora; that of biology to forget is given on request."
        )
    return found
