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
    shots: tuple[tuple[str, str], ...] = ()
    """Earlier turns of the conversation, questions with their answers: shown, not supervised."""
    system: str | None = None
    """The system prompt of this conversation, where it has one of its own."""


@dataclass(frozen=True)
class Probe:
    """One evaluation item; the answer, and wrong answers of the same form where there are any."""

    question: str | None
    """None for plain text, `answer`, which is scored and never asked."""
    answer: str
    group: str
    """The panel it belongs to."""
    wrong: tuple[str, ...] = ()
    paraphrase: str | None = None
    """Another wording of the true answer, which wrong answers are then compared with."""
    pattern: str | None = None
    """A regular expression that every well-formed answer to this question matches, if known."""
    shots: tuple[tuple[str, str], ...] = ()
    """Questions with their answers that are shown before the question."""
    literal: bool = False
    """The question is the whole prompt as it stands, and the answer continues it: no template, no
    space, no end token."""
    kind: str = ""
    """What sort of item within its panel; kept with its results."""
    system: str | None = None
    """The system prompt of this conversation, where it has one of its own."""
    opening: str | None = None
    """A text with which the answer begins, and which counts as prompt. With a chat template it
    stands where the template lets an answer begin; without one the question, a new line if it ends
    in none, and the opening are the whole prompt. The answer follows after a space, unless white
    space is there already, and gets no end token."""
    answers: tuple[str, ...] = ()
    """Further true answers; what is generated counts by the one that it fits best."""
    name: str = ""
    """What its file calls it; kept with its results."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """How the probes of one group are measured."""

    name: str
    new_tokens: int | None = None
    """Longest generated answer; 0: nothing is generated; None: as the configuration says."""
    stops: tuple[str, ...] = ()
    """Texts that end a generated answer, besides the end token."""
    scored: bool = True
    """Whether the likelihoods of the answers are measured."""


PANELS = (Panel(name="forget"), Panel(name="retain"))


@dataclass(frozen=True)
class Task:
    """An unlearning task: rows to forget, rows to keep, and the items that measure both."""

    name: str
    forget: tuple[Example, ...]
    retain: tuple[Example, ...]
    probes: tuple[Probe, ...]
    panels: tuple[Panel, ...] = PANELS
    """How each group of probes is measured; every probe's group is one of them."""
    suite: str = ""
    """Whose published numbers are found too: tofu, muse, rwku, wmdp; "" for none."""
    documents: bool = False
    """Rows are documents: joined with blank lines and cut into rows of the greatest length."""
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
    questions: Literal["plain", "paraphrased"] = "plain"
    """Wording of the questions that are asked, where a benchmark has two."""
    holdout: str | None = None
    """Path of rows like those to forget that no model has seen."""
    texts: str | None = None
    """Path of texts to forget in place of those that the benchmark names."""
    seed: int = 0
    """Seed of generated rows."""
