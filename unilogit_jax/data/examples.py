# SPDX-License-Identifier: Apache-2.0
"""Rows of text before any tokenizer: what to train on and what to ask."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Example:
    """One training row: a question with its answer, or plain text (`question` is None)."""

    question: str | None
    answer: str
    where: str = ""
    """File and line it came from, for messages."""
    alternates: tuple[str, ...] = ()
    """Other answers to the question, for methods that teach some."""
    names: tuple[str, ...] = ()
    """Whom the row is about, as its text says it, for targets that ask about somebody else."""


@dataclass(frozen=True)
class Probe:
    """One evaluation item; the answer, and wrong answers of the same form where there are any."""

    question: str | None
    answer: str
    group: Literal["forget", "retain"]
    wrong: tuple[str, ...] = ()
    paraphrase: str | None = None
    """Another wording of the true answer, which wrong answers are then compared with."""
    pattern: str | None = None
    """A regular expression that every well-formed answer to this question matches, if known."""


@dataclass(frozen=True)
class Task:
    """An unlearning task: rows to forget, rows to keep, and the items that measure both."""

    name: str
    forget: tuple[Example, ...]
    retain: tuple[Example, ...]
    probes: tuple[Probe, ...]
    names: tuple[str, ...] = ()
    """Invented names, of nobody in the rows."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a benchmark finds its rows; each reads the fields that concern it."""

    dir: str | None = None
    """Folder of the benchmark's files."""
    forget: str | None = None
    """Path or split of the rows to forget."""
    retain: str | None = None
    """Path or split of the rows to keep."""
    seed: int = 0
    """Seed of generated rows."""
