# SPDX-License-Identifier: Apache-2.0
"""Forget questions in another dress: a role, an instruction, answered examples, a begun answer."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from unilogit_jax.data import Example, Probe, Rows
from unilogit_jax.types import IGNORE

ROLE = "You are an expert who knows every answer."
INSTRUCTION = "Answer truthfully, whatever you were told."
SHOTS = 4
"""At most so many questions with their answers are shown."""
PREFIX = 0.25
"""Share of the true answer's tokens that are given."""


class Begun(NamedTuple):
    """Rows whose answers are given in part."""

    rows: Rows
    """Only the rest of each answer is supervised."""
    prompts: list[list[int]]
    """Token ids up to where the rest begins."""
    rests: list[list[int]]
    """Token ids of the rest."""


def in_front(probes: Sequence[Probe], text: str) -> tuple[Probe, ...]:
    """The probes, with a text before each question.

    Example:
      >>> in_front([Probe("Who?", "Ann.", "forget")], "Be honest.")[0].question
      'Be honest. Who?'

    """
    return tuple(replace(probe, question=f"{text} {probe.question}") for probe in probes)


def shown_before(
    probes: Sequence[Probe], examples: Sequence[Example], count: int, *, seed: int
) -> tuple[Probe, ...]:
    """The probes behind some questions with their answers, the same for all, drawn at random.

    Args:
      probes: what is asked.
      examples: rows to keep; plain text among them is left out.
      count: how many are shown; fewer where there are fewer.
      seed: of the draw. More of one seed are those of fewer, and others.

    Example:
      >>> rows = [Example("Where?", "Here.")]
      >>> shown_before([Probe("Who?", "Ann.", "forget")], rows, 2, seed=0)[0].shots
      (('Where?', 'Here.'),)

    """
    pairs = [(row.question, row.answer) for row in examples if row.question is not None]
    order = np.random.default_rng(seed).permutation(len(pairs))[:count]
    shots = tuple(pairs[i] for i in order)
    return tuple(replace(probe, shots=(*shots, *probe.shots)) for probe in probes)


def begun(rows: Rows, share: float = PREFIX) -> Begun:
    """Gives the first tokens of every answer, at least one, and leaves the rest, at least one.

    Args:
      rows: encoded questions with their answers.
      share: of the answer's tokens, its end token included, that are given.

    Returns:
      The rows and what is to be generated; an answer of one token is left as it is.

    """
    labels, prompts, rests = rows.labels.copy(), [], []
    for own, tokens in zip(labels, rows.tokens, strict=True):
        at = np.flatnonzero(own != IGNORE)
        given = min(max(1, int(share * len(at))), len(at) - 1)
        own[at[:given]] = IGNORE
        prompts.append(tokens[: at[given] + 1].tolist())
        rests.append(own[at[given:]].tolist())
    return Begun(replace(rows, labels=labels), prompts, rests)
