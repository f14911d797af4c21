# SPDX-License-Identifier: Apache-2.0
"""The values of single items that a number of the table is the mean of; none of other numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from unilogit_jax import metrics
from unilogit_jax.evaluation.items import Evaluation, Item
from unilogit_jax.evaluation.suites import SUITES

Values = Float[np.ndarray, " items"]


def item_values(evaluation: Evaluation) -> dict[str, Values]:
    """Number -> its items' values, of those numbers of `summarize` that are means over items.

    Two models that were asked the same have their values in the same order. Distances between
    models and harmonic means are left out.

    Args:
      evaluation: the measured model.

    Returns:
      A subset of the keys of `MEANINGS`; each array's mean is the number itself.

    """
    found = own_values(evaluation)
    if evaluation.suite:
        suite = SUITES[evaluation.suite]
        log = suite.log(evaluation)
        for name, number in suite.names.items():
            values = _of_entry(log.get(name, {}))
            if values is not None:
                found[number] = values
    return found


def own_values(evaluation: Evaluation) -> dict[str, Values]:
    """Those of `item_values` that every task has, whatever its suite."""
    found: dict[str, Values] = {}
    for group in ("forget", "retain"):
        found |= _of_group(group, evaluation.of(group))
    if compared := _with_wrong(evaluation):
        found["forget_choice"] = _doubles(metrics.choice_hits(*_losses(compared)))
    return found


def forget_truth_ratios(evaluation: Evaluation) -> Values:
    """The truth ratio of every forget item that has wrong answers; what the KS distance is of."""
    items = _with_wrong(evaluation)
    return metrics.truth_ratio(*_losses(items)) if items else np.zeros(0)


def _of_group(name: str, items: list[Item]) -> dict[str, Values]:
    if not items:
        return {}
    found = {
        f"{name}_probability": metrics.probability(_doubles([i.nll for i in items])),
        f"{name}_exact_match": _doubles([i.exact for i in items]),
    }
    if asked := [i for i in items if i.answer is not None]:
        found[f"{name}_rouge_l"] = _doubles([i.rouge_l for i in asked])
        found[f"{name}_malformed"] = _doubles([i.malformed for i in asked])
    return found


def _with_wrong(evaluation: Evaluation) -> list[Item]:
    return [item for item in evaluation.of("forget") if item.wrong_nll]


def _losses(items: list[Item]) -> tuple[np.ndarray, np.ndarray]:
    # Rows may have different numbers of wrong answers; the shortest list decides.
    k = min(len(item.wrong_nll) for item in items)
    return _doubles([i.correct_nll for i in items]), _doubles([i.wrong_nll[:k] for i in items])


def _of_entry(entry: Mapping[str, Any]) -> Values | None:
    """The items of a log's entry whose number is their mean; None where it is none."""
    items = list(entry.get("value_by_index", {}).values())
    for key in ("score", "rougeL_f1"):
        if items and key in items[0]:
            return _doubles([item[key] for item in items])
    return None


def _doubles(values: Any) -> np.ndarray:
    return np.array(values, np.float64)
