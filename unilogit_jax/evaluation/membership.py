# SPDX-License-Identifier: Apache-2.0
"""Whether a model tells what it shall forget from what it never saw: the panels, and own numbers.

Published suites have logs of their own for this; the numbers here are for rows without a suite.
"""

from collections.abc import Iterable

import numpy as np

from unilogit_jax import metrics
from unilogit_jax.evaluation.items import Evaluation

SIDES = (("forget", "holdout"), ("privleak_forget", "privleak_holdout"))
"""Pairs of panels that are compared: TOFU's and own files', MUSE's."""


def sides_of(groups: Iterable[str]) -> tuple[str, str] | None:
    """The panel to forget and the one that no model has seen; None where these are not both there.

    Example:
      >>> sides_of(["forget", "retain", "holdout"])
      ('forget', 'holdout')

    """
    known = set(groups)
    return next((pair for pair in SIDES if known.issuperset(pair)), None)


def membership_numbers(evaluation: Evaluation, reference: Evaluation | None) -> dict[str, float]:
    """AUC of Min-K, and privleak against a model that never saw the forget rows.

    Args:
      evaluation: the measured model.
      reference: the gold model's, on the same items; None leaves privleak out.

    Returns:
      `membership_auc` and `privleak`, as far as the items determine them.

    """
    value = _min_k_auc(evaluation)
    if value is None:
        return {}
    gold = None if reference is None else _min_k_auc(reference)
    leak = {} if gold is None else {"privleak": metrics.privleak(value, gold)}
    return {"membership_auc": value} | leak


def _min_k_auc(evaluation: Evaluation) -> float | None:
    sides = sides_of(item.group for item in evaluation.items)
    if sides is None:
        return None
    found = [[item.scores.get("mia_min_k") for item in evaluation.of(side)] for side in sides]
    if any(score is None for side in found for score in side):
        return None
    return metrics.auc(*(np.array(side, np.float64) for side in found))
