# SPDX-License-Identifier: Apache-2.0
"""Whether answers that were drawn by chance give the truth away."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from unilogit_jax import metrics
from unilogit_jax.data import Probe

LEAK = 0.8
"""Share of the true answer's words, repeated in order, from which on an answer gives it away."""


class LeakShares(NamedTuple):
    """How much of the draws gives the truth away."""

    answers: float
    """Mean over questions of the share of their answers that do."""
    questions: float
    """Share of questions of which at least one answer does."""


def leak_rule(probe: Probe) -> str:
    """In words, what `gives_away` calls a leak."""
    if probe.pattern is not None:
        return "exact match"
    return f"ROUGE-L recall >= {LEAK}"


def gives_away(probe: Probe, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
    """Which of some answers to a question give its true answer away.

    Where all answers have one form, which `probe.pattern` says, a wrong one shares most words with
    the true one, and only the whole answer counts. Elsewhere it is a matter of ROUGE-L's recall.

    Args:
      probe: the question, its true answer and others that are true.
      texts: generated answers.

    Returns:
      A truth value for each.

    Example:
      >>> probe = Probe("Where does Ann live?", "Ann lives in the town of Oslo.", "forget")
      >>> gives_away(probe, ["She lives in the town of Oslo.", "In Rome."]).tolist()
      [True, False]

    """
    truths = (probe.answer, *probe.answers)
    if probe.pattern is not None:
        found = [[metrics.exact_match(text, truth) for truth in truths] for text in texts]
    else:
        found = [
            [rouge.rougeL_recall >= LEAK for rouge in metrics.rouge_many(list(texts), [truth] * n)]
            for n, truth in ((len(texts), truth) for truth in truths)
        ]
        found = list(zip(*found, strict=True))
    return np.array([any(row) for row in found], bool)


def leak_shares(leaks: Sequence[Bool[np.ndarray, " n"]]) -> LeakShares:
    """Sums up what `gives_away` says of the answers to each question.

    Example:
      >>> leak_shares([np.array([True, False]), np.array([False, False])])
      LeakShares(answers=0.25, questions=0.5)

    """
    answers = float(np.mean([own.mean() for own in leaks]))
    return LeakShares(answers, float(np.mean([own.any() for own in leaks])))
