# SPDX-License-Identifier: Apache-2.0
"""Means of scores: TOFU's aggregates of truth ratios, model utility, and intervals around them."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from unilogit_jax.errors import DataError
from unilogit_jax.metrics.probability import ks_distance

_EPSILON = 1e-10


class Interval(NamedTuple):
    """A number, and where it may lie if the items had been others of their kind."""

    value: float
    low: float
    high: float


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

    Example:
      >>> truth_ratio_score(np.array([0.5, 2.0]), aggregate="true_better")
      0.25

    Reference: TOFU, arXiv:2401.06121; the 1e-10 is open-unlearning's.
    """
    ratios = np.asarray(ratios, np.float64)
    if not len(ratios):
        raise DataError("a mean of truth ratios needs at least one item.")
    if aggregate == "closer_to_1":
        return float(np.minimum(ratios, 1 / (ratios + _EPSILON)).mean())
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


def mean_interval(
    values: Float[np.ndarray, " items"], *, level: float = 0.95, samples: int = 1000, seed: int = 0
) -> Interval:
    """A mean and its bootstrap interval: the middle of means over items drawn with replacement.

    Args:
      values: one per item.
      level: share of the drawn means inside.
      samples: how many are drawn.
      seed: of the draws.

    Raises:
      DataError: there are no items.

    Example:
      >>> mean_interval(np.array([0.25, 0.25]))
      Interval(value=0.25, low=0.25, high=0.25)

    """
    values = np.asarray(values, np.float64)
    if not len(values):
        raise DataError("a mean needs at least one item.")
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (samples, len(values)))].mean(axis=1)
    return Interval(float(values.mean()), *_middle(means, level))


def ks_interval(
    a: Float[np.ndarray, " n"],
    b: Float[np.ndarray, " m"],
    *,
    level: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
) -> Interval:
    """The KS distance of two samples and its bootstrap interval.

    [2 D - q_high, 2 D - q_low] within [0, 1], with D the distance and q the outer quantiles of the
    distances of samples drawn anew

    Args:
      a: values of one sample.
      b: values of the other.
      level: how often the interval is meant to hold the true distance.
      samples: how often both are drawn.
      seed: of the draws.

    Raises:
      DataError: a sample is empty.

    Example:
      >>> ks_interval(np.arange(3.0), np.arange(3.0) + 10)
      Interval(value=1.0, low=1.0, high=1.0)

    Reference: Davison and Hinkley 1997, "Bootstrap Methods and Their Application", 5.2 (the basic
      interval).
    Note: a distance cannot be negative, so that resampling pushes it up; plain quantiles would lie
      too high. With normal samples and level 0.95 the interval held the true distance in nine of
      ten trials at 200 to 400 items, in seven to eight of ten at 40 items or where the samples were
      alike: use it to tell methods apart, not to test for a distance of 0.
    """
    found = ks_distance(a, b).distance
    rng = np.random.default_rng(seed)
    values = np.unique(np.concatenate([a, b]))
    shares = [_drawn_shares(x, values, samples, rng) for x in (a, b)]
    distances = np.abs(np.cumsum(shares[0] - shares[1], axis=1)).max(axis=1)
    low, high = _middle(distances, level)
    low, high = np.clip([2 * found - high, 2 * found - low], 0.0, 1.0)
    return Interval(found, float(low), float(high))


def _drawn_shares(
    sample: Float[np.ndarray, " n"],
    values: Float[np.ndarray, " v"],
    samples: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "samples v"]:
    """Shares of the sorted values, one row for each time that the sample is drawn anew."""
    # How often each value is drawn is multinomial: all at once, without sorting any.
    counts = np.bincount(np.searchsorted(values, sample), minlength=len(values))
    return rng.multinomial(len(sample), counts / len(sample), size=samples) / len(sample)


def _middle(values: Float[np.ndarray, " samples"], level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
