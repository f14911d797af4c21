# SPDX-License-Identifier: Apache-2.0
"""TOFU's numbers: a log in the published layout, from the items of its panels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from unilogit_jax import metrics
from unilogit_jax.evaluation.items import Evaluation, Item
from unilogit_jax.evaluation.suites._log import (
    attacks,
    entry,
    likelihood,
    memorization,
    rouges,
    scores,
)

_CHOICES = {"ra": "real_authors", "wf": "world_facts"}
"""Published prefix -> panel, of the sets with answers on offer."""


def tofu_log(evaluation: Evaluation) -> dict[str, Any]:
    """What TOFU_EVAL.json holds, as far as the panels are there."""
    log: dict[str, Any] = {}
    for group in ("forget", "retain"):
        if items := evaluation.of(group):
            log |= _answers(group, items)
            if all(item.wrong_nll for item in items):
                log[f"{group}_Q_A_PARA_Prob"] = likelihood([i.correct_nll for i in items])
                name = "forget_truth_ratio" if group == "forget" else "retain_Truth_Ratio"
                log |= _wrong(group, name, items)
    for prefix, group in _CHOICES.items():
        if items := evaluation.of(group):
            log |= _answers(prefix, items) | _wrong(prefix, f"{prefix}_Truth_Ratio", items)
            shares = metrics.normalised_probability(*_losses(items))
            values = [{"prob": float(share)} for share in shares]
            log[f"{prefix}_Q_A_Prob_normalised"] = entry(values, "prob")
    forget, holdout = evaluation.of("forget"), evaluation.of("holdout")
    if forget:
        log |= memorization(forget)
        if holdout:
            log |= attacks(forget, holdout)
    return log


def _answers(prefix: str, items: Sequence[Item]) -> dict[str, Any]:
    return {
        f"{prefix}_Q_A_Prob": likelihood([i.nll for i in items]),
        f"{prefix}_Q_A_ROUGE": rouges(items, "rougeL_recall"),
    }


def _wrong(prefix: str, truth_ratio: str, items: Sequence[Item]) -> dict[str, Any]:
    """The wrong answers, and the ratio of their probability to the right one's."""
    ratios = metrics.truth_ratio(*_losses(items))
    aggregate = "closer_to_1" if prefix == "forget" else "true_better"
    mean = metrics.truth_ratio_score(ratios, aggregate=aggregate)
    return {
        f"{prefix}_Q_A_PERT_Prob": likelihood([i.wrong_nll for i in items]),
        truth_ratio: scores(ratios.tolist()) | {"agg_value": mean},
    }


def _losses(items: Sequence[Item]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([i.correct_nll for i in items]), np.array([i.wrong_nll for i in items])
