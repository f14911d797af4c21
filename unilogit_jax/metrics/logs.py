# SPDX-License-Identifier: Apache-2.0
"""Evaluation logs as open-unlearning publishes them: every aggregate again, from the items.

A log is the parsed TOFU_EVAL.json or MUSE_EVAL.json: metric -> {"agg_value": number,
"value_by_index": {"0": {...}, ...}}. What the items determine is computed from them; nothing is
taken over from `agg_value`.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from unilogit_jax.errors import DataError
from unilogit_jax.metrics.membership import auc, privleak
from unilogit_jax.metrics.probability import ks_distance, normalised_probability, truth_ratio
from unilogit_jax.metrics.utility import model_utility, truth_ratio_score

Log = Mapping[str, Any]

UTILITY = (
    "retain_Q_A_Prob",
    "retain_Q_A_ROUGE",
    "retain_Truth_Ratio",
    "ra_Q_A_Prob_normalised",
    "ra_Q_A_ROUGE",
    "ra_Truth_Ratio",
    "wf_Q_A_Prob_normalised",
    "wf_Q_A_ROUGE",
    "wf_Truth_Ratio",
)
"""The nine numbers whose harmonic mean is TOFU's model utility."""

TRUTH_RATIOS = {
    "forget_truth_ratio": ("forget_Q_A_PARA_Prob", "forget_Q_A_PERT_Prob"),
    "retain_Truth_Ratio": ("retain_Q_A_PARA_Prob", "retain_Q_A_PERT_Prob"),
    "ra_Truth_Ratio": ("ra_Q_A_Prob", "ra_Q_A_PERT_Prob"),
    "wf_Truth_Ratio": ("wf_Q_A_Prob", "wf_Q_A_PERT_Prob"),
}
"""Metric -> the metrics that hold the likelihoods of right and of wrong answers."""


def summarize_tofu_log(log: Log, reference: Log | None) -> dict[str, float]:
    """The numbers of a TOFU log, by the names of the published logs.

    Args:
      log: a parsed TOFU_EVAL.json.
      reference: the log of the model that was trained on the retain rows alone, which forget
        quality and privleak are measured against; None leaves these two out and warns.

    Returns:
      Every aggregate that the items determine; `forget_quality` is the p-value of the two-sample KS
      test of the truth ratios, `forget_quality_distance` its distance.

    Raises:
      DataError: the log is no such log, or the reference was made on other items.

    Example:
      >>> items = {"0": {"prob": 0.5, "avg_loss": 0.69}, "1": {"prob": 0.25, "avg_loss": 1.39}}
      >>> with warnings.catch_warnings(action="ignore"):
      ...     summarize_tofu_log({"forget_Q_A_Prob": {"value_by_index": items}}, None)
      {'forget_Q_A_Prob': 0.375}

    """
    found = _aggregates(log)
    if "forget_truth_ratio" in log:
        found |= _against("forget_quality", log, reference, _forget_quality)
    if "mia_min_k" in log:
        found |= _against("privleak", log, reference, _privleak)
    if all(name in found for name in UTILITY):
        found["model_utility"] = model_utility([found[name] for name in UTILITY])
    return found


def summarize_muse_log(log: Log, reference: Log | None) -> dict[str, float]:
    """The numbers of a MUSE log, likewise; its ROUGE is the F1, not the recall.

    Args:
      log: a parsed MUSE_EVAL.json.
      reference: the retrained model's, which privleak is measured against; None leaves it out and
        warns.

    Returns:
      Every aggregate that the items determine.

    Raises:
      DataError: the log is no such log.

    Example:
      >>> items = {"0": {"rougeL_f1": 0.5}, "1": {"rougeL_f1": 0.25}}
      >>> summarize_muse_log({"forget_knowmem_ROUGE": {"value_by_index": items}}, None)
      {'forget_knowmem_ROUGE': 0.375}

    """
    found = _aggregates(log, rouge="rougeL_f1")
    if "mia_min_k" in log:
        found |= _against("privleak", log, reference, _privleak)
    return found


def items_of(log: Log, metric: str, key: str) -> list[Any]:
    """One value of each item of a metric, in the order of the items.

    Raises:
      DataError: the log has no such metric or its items no such value.

    Example:
      >>> items_of({"a": {"value_by_index": {"1": {"score": 2}, "0": {"score": 1}}}}, "a", "score")
      [1, 2]

    """
    try:
        by_index = log[metric]["value_by_index"]
        return [by_index[i][key] for i in sorted(by_index, key=int)]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"the log has no {metric} with a '{key}' for each item ({error!r}); expected the "
            "layout of TOFU_EVAL.json."
        ) from None


def _aggregates(log: Log, *, rouge: str = "rougeL_recall") -> dict[str, float]:
    """What single metrics say by themselves."""
    if not log:
        raise DataError("the evaluation log is empty: expected the layout of TOFU_EVAL.json.")
    found: dict[str, float] = {}
    for name in log:
        if name.startswith("mia_"):
            sides = [items_of(log[name], side, "score") for side in ("forget", "holdout")]
            found[name] = auc(*(np.array(side) for side in sides))
        elif name.endswith("_ROUGE"):
            found[name] = _mean(items_of(log, name, rouge))
        elif name.endswith("_Prob"):
            found[name] = _mean([np.mean(x) for x in items_of(log, name, "prob")])
        elif name.endswith("_Prob_normalised"):
            found[name] = _mean(_normalised(log, name))
        elif name in TRUTH_RATIOS:
            aggregate = "closer_to_1" if name.startswith("forget") else "true_better"
            found[name] = truth_ratio_score(truth_ratios(log, name), aggregate=aggregate)
        elif name.startswith(("exact_memorization", "extraction_strength")):
            found[name] = _mean(items_of(log, name, "score"))
    return found


def truth_ratios(log: Log, name: str) -> np.ndarray:
    """The truth ratio of each item, from the likelihoods where the log has them.

    Raises:
      DataError: the log has neither.

    Example:
      >>> log = {"ra_Truth_Ratio": {"value_by_index": {"0": {"score": 2}}}}
      >>> truth_ratios(log, "ra_Truth_Ratio")
      array([2.])

    """
    right, wrong = TRUTH_RATIOS[name]
    if right in log and wrong in log:
        losses = (np.array(items_of(log, metric, "avg_loss")) for metric in (right, wrong))
        return truth_ratio(*losses)
    return np.array(items_of(log, name, "score"), np.float64)


def _normalised(log: Log, name: str) -> Any:
    """Right answers' share of the probability of all on offer."""
    right = name.removesuffix("_normalised")
    wrong = right.replace("_Prob", "_PERT_Prob")
    if right in log and wrong in log:
        # From the probabilities: those of the logs have been rounded to float32.
        with np.errstate(divide="ignore"):
            losses = (-np.log(np.array(items_of(log, x, "prob"))) for x in (right, wrong))
            return normalised_probability(*losses)
    return items_of(log, name, "prob")


def _against(
    name: str,
    log: Log,
    reference: Log | None,
    measure: Callable[[Log, Log], dict[str, float]],
) -> dict[str, float]:
    if reference is None:
        warnings.warn(
            f"{name} needs the log of a model that never saw the forget rows: it is left out.",
            stacklevel=3,
        )
        return {}
    return measure(log, reference)


def _forget_quality(log: Log, reference: Log) -> dict[str, float]:
    own, wanted = (truth_ratios(x, "forget_truth_ratio") for x in (log, reference))
    if len(own) != len(wanted):
        raise DataError(
            f"the reference log has {len(wanted)} forget items and this one {len(own)}: it was "
            "made for another split."
        )
    ks = ks_distance(own, wanted)
    return {"forget_quality": ks.p_value, "forget_quality_distance": ks.distance}


def _privleak(log: Log, reference: Log) -> dict[str, float]:
    sides = [
        auc(*(np.array(items_of(x["mia_min_k"], side, "score")) for side in ("forget", "holdout")))
        for x in (log, reference)
    ]
    return {"privleak": privleak(*sides)}


def _mean(values: Any) -> float:
    return float(np.mean(np.asarray(values, np.float64)))
