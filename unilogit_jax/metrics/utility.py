# SPDX-License-Identifier: Apache-2.0
"""Means of scores: TOFU's aggregates of truth ratios, and model utility."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from unilogit_jax.errors import DataError, check_choice
from unilogit_jax.metrics.probability import EPSILON


def truth_ratio_score(
    ratios: Float[np.ndarray, " items"], *, aggregate: Literal["closer_to_1", "true_better"]
) -> float:
    """TOFU's means of truth ratios.

    closer_to_1: mean min(r, 1/(r + 1e-10));    true_better: mean max(0, 1 - r)

    Args:
      ratios: r = wrong/correct, as `truth_ratio` gives them.
      aggregate: closer_to_1 is for forget items, true_better for all others.

    Returns:
      A value in [0, 1]. For forget items it is high where the model cannot tell right from wrong;
      that is no forget quality: models that never saw them lie at 0.6 to 0.7. For all others higher
      is better.

    Raises:
      DataError: there are no items.
      ValueError: an unknown aggregate.

    Example:
      >>> truth_ratio_score(np.array([0.5, 2.0]), aggregate="true_better")
      0.25

    Reference: TOFU, arXiv:2401.06121; the 1e-10 is open-unlearning's.
    """
    check_choice("aggregate", aggregate, ("closer_to_1", "true_better"))
    ratios = np.asarray(ratios, np.float64)
    if not len(ratios):
        raise DataError("a mean of truth ratios needs at least one item.")
    if aggregate == "closer_to_1":
        return float(np.minimum(ratios, 1 / (ratios + EPSILON)).mean())
    return float(np.maximum(0.0, 1.0 - ratios).mean())


def model_utility(values: Sequence[float]) -> float:
    """The harmonic mean of what a model can still do; one zero makes it zero.

    n / sum_i 1/x_i

    Args:
      values: TOFU takes nine: probability, ROUGE-L recall and truth ratio of retain rows, real
        authors and world facts, the probability of the last two among the answers on offer.

    Returns:
      A value in [0, 1], higher is better.

    Raises:
      DataError: there is none, or one is negative.

    Example:
      >>> round(model_utility([0.5, 1.0]), 6)
      0.666667

    Reference: TOFU, arXiv:2401.06121, "model utility".
    """
    numbers = np.asarray(values, np.float64)
    if not len(numbers) or (numbers < 0).any():
        raise DataError(f"model utility needs numbers of at least 0, got {list(values)}.")
    return float(len(numbers) / np.sum(1 / numbers)) if numbers.all() else 0.0
