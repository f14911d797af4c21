# SPDX-License-Identifier: Apache-2.0
"""Scores made from the mean token nll of an answer and of wrong answers to the same question.

Everywhere `nll` is the mean of -log p over the answer's tokens, its end token included (natural
logarithm), so `exp(-nll)` is the geometric mean of the token probabilities. Results are float64.
"""

import warnings
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from unilogit_jax.errors import DataError

EPSILON = 1e-10
"""Added to denominators by open-unlearning; kept so that results compare to the last digit."""


class KsResult(NamedTuple):
    """A two-sample Kolmogorov-Smirnov test: its distance, p-value and the two sample sizes."""

    distance: float
    p_value: float
    n: int
    m: int


def probability(nll: Float[np.ndarray, " items"]) -> Float[np.ndarray, " items"]:
    """Probability of each answer, normalised for its length.

    exp(-nll)

    Args:
      nll: mean token nll of each answer.

    Returns:
      One value in [0, 1] per item: high on retained answers is good; on forgotten ones the aim is
      the value of a model that never saw them.

    Example:
      >>> probability(np.log(np.array([2.0, 4.0])))
      array([0.5 , 0.25])

    Reference: TOFU, arXiv:2401.06121, "probability".
    """
    return np.exp(-np.asarray(nll, np.float64))


def normalised_probability(
    nll: Float[np.ndarray, " items"], wrong_nll: Float[np.ndarray, "items choices"]
) -> Float[np.ndarray, " items"]:
    """Probability of the correct answer among the answers on offer.

    P / (P + sum_j P_wrong_j + 1e-10), with P = exp(-nll)

    Args:
      nll: mean token nll of the correct answers.
      wrong_nll: the same for the wrong answers of each item.

    Returns:
      One value in [0, 1] per item, higher is better; 1 / (1 + choices) is guessing.

    Raises:
      DataError: the two arrays belong to different items, or there are no wrong answers.

    Example:
      >>> normalised_probability(np.zeros(1), np.zeros((1, 3))).round(6)
      array([0.25])

    Reference: TOFU, arXiv:2401.06121, "probability" of the multiple-choice sets.
    Note: the 1e-10 is open-unlearning's; if every answer has probability 0 the value is 0.
    """
    _check_choices(nll, wrong_nll)
    correct = probability(nll)
    wrong = np.exp(-np.asarray(wrong_nll, np.float64))
    return correct / (correct + wrong.sum(-1) + EPSILON)


def truth_ratio(
    correct_nll: Float[np.ndarray, " items"], wrong_nll: Float[np.ndarray, "items choices"]
) -> Float[np.ndarray, " items"]:
    """How probable the wrong answers are, relative to the correct one.

    exp(-mean_j wrong_nll_j) / (exp(-correct_nll) + 1e-10)

    Args:
      correct_nll: mean token nll of the correct answer, or of a paraphrase of it.
      wrong_nll: the same for the wrong answers of each item.

    Returns:
      One value in [0, 1e10] per item. Near 0 the model knows the answer, 1 it cannot tell. On
      retained items lower is better; on forgotten items no value is good in itself: the aim is the
      distribution of a model that never saw them (`ks_distance`).

    Raises:
      DataError: the two arrays belong to different items, or there are no wrong answers.

    Example:
      >>> truth_ratio(np.log(np.array([2.0])), np.log(np.array([[4.0, 16.0]]))).round(6)
      array([0.25])

    Reference: TOFU, arXiv:2401.06121, "truth ratio".
    Note: wrong over correct, with the geometric mean over the wrong answers and the 1e-10, is the
      definition of open-unlearning. TOFU's own script prints the inverse; the equation of the paper
      takes the arithmetic mean of the wrong answers' probabilities.
    """
    _check_choices(correct_nll, wrong_nll)
    wrong = np.exp(-np.asarray(wrong_nll, np.float64).mean(-1))
    return wrong / (probability(correct_nll) + EPSILON)


def choice_accuracy(
    correct_nll: Float[np.ndarray, " items"], wrong_nll: Float[np.ndarray, "items choices"]
) -> float:
    """Share of items whose correct answer has the lowest mean token nll.

    Args:
      correct_nll: mean token nll of the correct answers.
      wrong_nll: the same for the wrong answers of each item.

    Returns:
      A value in [0, 1]; 1 / (1 + choices) is guessing. Higher is better on retained items. A tie is
      no hit, so a model that gives everything the same probability scores 0.

    Raises:
      DataError: there are no items or no wrong answers, or the arrays belong to different items.

    Example:
      >>> choice_accuracy(np.array([1.0, 3.0]), np.array([[2.0, 4.0], [2.0, 4.0]]))
      0.5

    """
    hits = choice_hits(correct_nll, wrong_nll)
    if not len(hits):
        raise DataError("choice accuracy of no items: give at least one question.")
    return float(hits.mean())


def choice_hits(
    correct_nll: Float[np.ndarray, " items"], wrong_nll: Float[np.ndarray, "items choices"]
) -> Bool[np.ndarray, " items"]:
    """Which items' correct answer has the lowest mean token nll; `choice_accuracy` is their share.

    Args:
      correct_nll: as in `choice_accuracy`.
      wrong_nll: the same.

    Returns:
      A truth value per item; a tie is no hit.

    Raises:
      DataError: there are no wrong answers, or the arrays belong to different items.

    Example:
      >>> choice_hits(np.array([1.0, 3.0]), np.array([[2.0, 4.0], [2.0, 4.0]])).tolist()
      [True, False]

    """
    _check_choices(correct_nll, wrong_nll)
    return np.asarray(np.all(np.asarray(correct_nll)[:, None] < np.asarray(wrong_nll), axis=-1))


def ks_distance(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " m"]) -> KsResult:
    """Two-sample Kolmogorov-Smirnov test: could both samples come from one distribution?

    distance = max_x |F_a(x) - F_b(x)|, with F the shares of values <= x

    With the truth ratios of an unlearned model and of a model that never saw the forgotten data,
    the p-value is TOFU's "forget quality". It depends on the number of items, and it looks at the
    ratio alone, which a model that writes nonsense can get right: show the distance, n and a score
    of the generated text beside it.

    Args:
      a: values of one sample.
      b: values of the other.

    Returns:
      Distance in [0, 1] (lower: more alike) and two-sided p-value in [0, 1] (higher: more alike),
      exact up to 10,000 values per sample wherever SciPy can find it; both NaN if a value is NaN.

    Raises:
      DataError: a sample is empty.

    Example:
      >>> ks_distance(np.array([1.0, 2.0]), np.array([3.0, 4.0])).distance
      1.0

    Reference: TOFU, arXiv:2401.06121, "forget quality"; `scipy.stats.ks_2samp`.
    """
    from scipy.stats import ks_2samp

    n, m = len(a), len(b)
    if not n or not m:
        raise DataError(f"the KS distance needs two samples, got {n} and {m} values.")
    if np.isnan(a).any() or np.isnan(b).any():
        return KsResult(float("nan"), float("nan"), n, m)
    with warnings.catch_warnings():
        # Where its exact sum is not to be had, SciPy takes the limit of many values and says so.
        warnings.filterwarnings("ignore", "ks_2samp: Exact calculation", RuntimeWarning)
        result: Any = ks_2samp(a, b, alternative="two-sided", method="auto")
    return KsResult(float(result.statistic), float(result.pvalue), n, m)


def _check_choices(correct: np.ndarray, wrong: np.ndarray) -> None:
    if np.ndim(wrong) != 2 or np.shape(wrong)[0] != np.shape(correct)[0] or np.shape(wrong)[1] == 0:
        raise DataError(
            f"wrong answers have shape {np.shape(wrong)}, but {np.shape(correct)[0]} items need "
            "(items, choices) with at least one choice."
        )
