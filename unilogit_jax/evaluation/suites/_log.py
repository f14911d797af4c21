# SPDX-License-Identifier: Apache-2.0
"""Pieces of a published log: metric -> {"agg_value": mean, "value_by_index": items}."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unilogit_jax.evaluation.items import Item
from unilogit_jax.metrics import auc, items_of

Entry = dict[str, Any]

ATTACKS = ("mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus")
GRADNORM = "mia_gradnorm"
"""The attack that costs a backward pass for each item, and is there where it was asked for."""


def entry(values: Sequence[Entry], key: str) -> Entry:
    """Items, and the mean over them of one value (of lists the mean of their means)."""
    mean = float(np.mean([np.mean(value[key]) for value in values]))
    return {"agg_value": mean, "value_by_index": {str(i): v for i, v in enumerate(values)}}


def likelihood(losses: Sequence[Any]) -> Entry:
    """Probability of one answer or of several, and the mean token nll that it is made of."""
    arrays = [np.asarray(loss, np.float64) for loss in losses]
    return entry([{"prob": np.exp(-x).tolist(), "avg_loss": x.tolist()} for x in arrays], "prob")


def scores(values: Sequence[float]) -> Entry:
    """One number of each item."""
    return entry([{"score": float(value)} for value in values], "score")


def rouges(items: Sequence[Item], key: str) -> Entry:
    """What was asked, what came, and three ROUGEs, of which `key` is the mean."""
    values = [
        {
            "rouge1_recall": item.scores["rouge1_recall"],
            "rougeL_f1": item.scores["rougeL_f1"],
            "rougeL_recall": item.rouge_l,
            "input": item.question,
            "ground_truth": item.truth,
            "generation": item.answer,
        }
        for item in items
    ]
    return entry(values, key)


def memorization(items: Sequence[Item]) -> dict[str, Entry]:
    """Exact memorisation and extraction strength, as published; also the second without floor."""
    names = "exact_memorization", "extraction_strength", "extraction_strength_exact"
    return {name: scores([item.scores[name] for item in items]) for name in names}


def attacks(forget: Sequence[Item], holdout: Sequence[Item]) -> dict[str, Entry]:
    """Membership scores of both sides with their AUC."""
    names = (*ATTACKS, GRADNORM) if GRADNORM in forget[0].scores else ATTACKS
    sides = forget, holdout
    return {
        name: _attack([[item.scores[name] for item in side] for side in sides]) for name in names
    }


def reference_attack(log: Mapping[str, Any], reference: Mapping[str, Any] | None) -> Entry:
    """The attack that sets each item's loss against another model's.

    a - a_ref,    a the item's mean token nll

    Args:
      log: of the measured model.
      reference: the log of a model that never saw the forget rows.

    Returns:
      `mia_reference` with its sides; nothing where not both logs have the losses of the same number
      of items.

    """
    if reference is None or not ("mia_loss" in log and "mia_loss" in reference):
        return {}
    sides = []
    for side in ("forget", "holdout"):
        own, other = (items_of(x["mia_loss"], side, "score") for x in (log, reference))
        if len(own) != len(other):
            return {}
        sides.append([a - b for a, b in zip(own, other, strict=True)])
    return {"mia_reference": _attack(sides)}


def _attack(sides: Sequence[Sequence[float]]) -> Entry:
    """The scores of forget and hold-out items, and how well they tell them apart."""
    forget, holdout = sides
    area = auc(np.asarray(forget, np.float64), np.asarray(holdout, np.float64))
    return {"forget": scores(forget), "holdout": scores(holdout), "auc": area, "agg_value": area}
