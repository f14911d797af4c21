# SPDX-License-Identifier: Apache-2.0
"""Values of single items: their means are the numbers of the table, and JSON keeps them."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from unilogit_jax.evaluation import (
    MEANINGS,
    Evaluation,
    Item,
    forget_truth_ratios,
    item_values,
    summarize,
)
from unilogit_jax.metrics import ks_distance
from unilogit_jax.run import read_json, write_json

APART = {
    *("forget_ks_distance", "forget_ks_p", "model_utility", "membership_auc", "privleak"),
    "retain_seen_accuracy",
}
"""Numbers that are no mean over items, or whose items are not kept."""
SCORES = (
    *("rouge1_recall", "rougeL_f1", "exact_memorization", "extraction_strength"),
    *("extraction_strength_exact", "mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus"),
)
PANELS = {
    "": {"forget": 4, "retain": 3},
    "tofu": {"forget": 5, "retain": 5, "real_authors": 3, "world_facts": 3, "holdout": 0},
    "muse": dict.fromkeys(
        ("forget_knowmem", "retain_knowmem", "verbmem", "privleak_forget", "privleak_holdout"), 0
    ),
    "rwku": {"forget_level1": 0, "neighbor_level2": 0, "mmlu": 3, "forget_mia": 0, "triviaqa": 0},
    "wmdp": {"wmdp_bio": 3, "mmlu": 3},
}


def evaluation(suite: str, seed: int = 0, *, count: int = 7) -> Evaluation:
    rng = np.random.default_rng(seed)
    items = [
        Item(
            group=group,
            question=f"Q{k}?",
            truth="It is blue.",
            answer="It is red.",
            nll=float(rng.uniform(0, 3)),
            correct_nll=float(rng.uniform(0, 3)),
            # As many wrong answers as there are, or one more.
            wrong_nll=tuple(rng.uniform(0, 4, wrong + (k % 2 and not suite)).tolist()),
            exact=bool(rng.integers(2)),
            rouge_l=float(rng.uniform()),
            malformed=bool(rng.integers(2)),
            scores={name: float(rng.uniform()) for name in SCORES},
            tokens=4,
        )
        for group, wrong in PANELS[suite].items()
        for k in range(count)
    ]
    return Evaluation(tuple(items), 0.5, suite)


@pytest.mark.parametrize("suite", PANELS)
def test_the_means_are_the_numbers_of_the_table(suite):
    measured = evaluation(suite)
    numbers, values = summarize(measured, evaluation(suite, 1)), item_values(measured)
    assert set(values) == set(numbers) - APART and set(values) <= set(MEANINGS)
    for name, found in values.items():
        assert found.dtype == np.float64
        assert found.mean() == pytest.approx(numbers[name], rel=1e-12), name


def test_truth_ratios_are_those_of_the_distance():
    both = evaluation("", 0), evaluation("", 1)
    wanted = summarize(*both)["forget_ks_distance"]
    assert ks_distance(*map(forget_truth_ratios, both)).distance == wanted > 0
    assert not len(forget_truth_ratios(evaluation("muse")))


def test_json_gives_back_the_items(tmp_path):
    measured = evaluation("tofu")
    unasked = replace(measured.items[0], answer=None, nll=None, correct_nll=None, tokens=None)
    items = (*measured.items, unasked)
    write_json(tmp_path / "x.json", Evaluation(items, 0.5, "tofu").as_dicts())
    again = Evaluation.from_dicts(read_json(tmp_path / "x.json"), seen_accuracy=0.5, suite="tofu")
    assert again == Evaluation(items, 0.5, "tofu")


def test_what_was_not_finite_is_no_number_and_no_crash(tmp_path):
    broken = replace(evaluation("").items[0], nll=math.inf, correct_nll=math.inf)
    write_json(tmp_path / "x.json", Evaluation((broken,), 0.5).as_dicts())
    assert json.loads((tmp_path / "x.json").read_text())[0]["nll"] is None
    again = Evaluation.from_dicts(read_json(tmp_path / "x.json"), seen_accuracy=0.5, suite="")
    values = item_values(again)
    assert math.isnan(values["forget_probability"][0]) and values["forget_choice"][0] == 0
