# SPDX-License-Identifier: Apache-2.0
"""Membership inference: scores that tell training data from other data, and what is made of them.

Every score is high for what a model has *not* been trained on. The AUC compares forget data, which
it was trained on, with hold-out data, which it was not: 1 says that the two are told apart without
fail, 0.5 that they are not.
"""

import zlib
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from unilogit_jax.errors import DataError, check_choice
from unilogit_jax.metrics.probability import EPSILON

_LEAST_VARIANCE = 1e-6

MinK = Literal["open_unlearning", "muse"]


def auc(member: Float[np.ndarray, " n"], other: Float[np.ndarray, " m"]) -> float:
    """How often a member has a lower score than another item; ties count half.

    P(member < other) + P(member = other) / 2

    Args:
      member: scores of the forget items.
      other: scores of the hold-out items.

    Returns:
      A value in [0, 1]: 1 means fully memorised, 0.5 nothing to see; below 0.5 the forget items
      look less like training data than data never seen, which gives them away as well.

    Raises:
      DataError: one of them is empty.

    Example:
      >>> auc(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
      0.875

    """
    from scipy.stats import rankdata

    n, m = len(member), len(other)
    if not n or not m:
        raise DataError(f"an AUC needs items on both sides, got {n} and {m}.")
    ranks = rankdata(np.concatenate([member, other]))
    return float((ranks[n:].sum() - m * (m + 1) / 2) / (n * m))


def min_k(
    logprobs: Float[np.ndarray, " T"], *, share: float = 0.4, variant: MinK = "open_unlearning"
) -> float:
    """Min-K%: the mean negative log-probability of the tokens that the model expects least.

    -(1/k) sum of the k smallest log p_t,    k = share * T

    Args:
      logprobs: of an item's labels.
      share: of the tokens that count.
      variant: "open_unlearning" leaves the last token out and takes at least one; "muse" does
        neither, and is NaN for texts shorter than 1/share tokens.

    Returns:
      The score, at least 0.

    Raises:
      ValueError: an unknown variant.

    Example:
      >>> min_k(np.array([-1.0, -5.0, -3.0, -2.0, -4.0, -9.0]))
      4.5

    Reference: Shi et al. 2024, arXiv:2310.16789.
    """
    return -_lowest(logprobs, share, variant)


def min_k_plus_plus(
    logprobs: Float[np.ndarray, " T"],
    means: Float[np.ndarray, " T"],
    variances: Float[np.ndarray, " T"],
    *,
    share: float = 0.4,
    variant: MinK = "open_unlearning",
) -> float:
    """Min-K%++: Min-K% of log-probabilities measured against the whole distribution's.

    -(1/k) sum of the k smallest (log p_t - mu_t) / sqrt(max(var_t, 1e-6))

    Args:
      logprobs: of an item's labels.
      means: sum_k p_k log p_k at each of them.
      variances: the variance of log p under p at each of them.
      share: as in `min_k`.
      variant: as in `min_k`.

    Returns:
      The score.

    Raises:
      ValueError: an unknown variant.

    Example:
      >>> logprobs, zeros = np.array([-1.0, -3.0, -2.0, -2.0]), np.zeros(4)
      >>> min_k_plus_plus(logprobs, zeros, zeros + 4)
      1.5

    Reference: Zhang et al. 2024, arXiv:2404.02936.
    """
    spread = np.sqrt(np.maximum(np.asarray(variances, np.float64), _LEAST_VARIANCE))
    return -_lowest((np.asarray(logprobs, np.float64) - means) / spread, share, variant)


def zlib_score(nll: float, text: str) -> float:
    """The mean negative log-likelihood per byte that the text takes when compressed.

    Args:
      nll: mean token nll of the text.
      text: the answer, without special tokens.

    Returns:
      The score, at least 0.

    Example:
      >>> round(zlib_score(2.2, "abc"), 6)
      0.2

    Reference: Carlini et al. 2021, arXiv:2012.07805.
    """
    return nll / len(zlib.compress(text.encode()))


def privleak(value: float, reference: float) -> float:
    """How far membership can be told, relative to a model that never saw the forget data.

    100 * ((1 - auc) - (1 - ref)) / ((1 - ref) + 1e-10)

    Args:
      value: AUC of Min-K% of the model.
      reference: the same of the model that was trained without the forget data. 0.5 in its place
        is wrong wherever forget and hold-out data differ of themselves.

    Returns:
      Per cent: 0 is the aim, -100 means still fully memorised, above 0 the forget data stand out
      by being avoided.

    Example:
      >>> round(privleak(1.0, 0.5), 3)
      -100.0

    Reference: MUSE, arXiv:2407.06460, whose AUC is one minus this one.
    """
    return 100 * ((1 - value) - (1 - reference)) / ((1 - reference) + EPSILON)


def relative_difference(value: float, reference: float) -> float:
    """How far a number is from a reference's, in per cent of that.

    Example:
      >>> round(relative_difference(0.6, 0.5), 3)
      20.0

    """
    return 100 * (value - reference) / (reference + EPSILON)


def _lowest(values: Float[np.ndarray, " T"], share: float, variant: MinK) -> float:
    """Mean of the lowest share of the values."""
    check_choice("variant", variant, get_args(MinK))
    values = np.asarray(values, np.float64)
    if variant == "open_unlearning":
        values = values[:-1]
    count = int(share * len(values))
    if variant == "open_unlearning":
        count = max(1, count)
    lowest = np.sort(values)[:count]
    return float(lowest.mean()) if len(lowest) else float("nan")
