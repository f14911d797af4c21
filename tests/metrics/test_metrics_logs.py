# SPDX-License-Identifier: Apache-2.0
"""Logs in the published layout: numbers of published runs, and aggregates of a log made by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from unilogit_jax.errors import DataError
from unilogit_jax.metrics import (
    ks_distance,
    model_utility,
    privleak,
    summarize_muse_log,
    summarize_tofu_log,
    truth_ratio_score,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "data/tofu_golden_pair.json").read_text())


def test_published_numbers_follow_from_published_items():
    ratios = [np.array(GOLDEN[f"forget_truth_ratio_{side}"]) for side in ("full", "retain")]
    ks = ks_distance(*ratios)
    assert ks.distance == pytest.approx(GOLDEN["ks_statistic"], abs=1e-12)
    assert ks.p_value == pytest.approx(GOLDEN["logged_forget_quality"], rel=1e-6)
    utility = model_utility(list(GOLDEN["mu_components"].values()))
    assert utility == pytest.approx(GOLDEN["logged_model_utility"], abs=1e-12)
    aggregates = [truth_ratio_score(r, aggregate="closer_to_1") for r in ratios]
    # The ratios are stored with nine decimals.
    assert aggregates[0] == pytest.approx(GOLDEN["forget_truth_ratio_agg"], abs=1e-8)
    assert aggregates[1] == pytest.approx(GOLDEN["retain_model_truth_ratio_agg"], abs=1e-8)
    leak = privleak(GOLDEN["mia_auc"]["mia_min_k"], GOLDEN["retain_mia_auc"]["mia_min_k"])
    assert leak == pytest.approx(GOLDEN["privleak_logged"], abs=1e-9)


def indexed(*values):
    return {"value_by_index": {str(i): value for i, value in enumerate(values)}}


def losses(*values):
    return indexed(*({"prob": np.exp(-np.array(x)), "avg_loss": x} for x in values))


def made_log(shift: float = 0.0):
    """A log of two items a metric; `shift` makes wrong forget answers less likely."""
    log = {
        "forget_Q_A_PARA_Prob": losses(1.0, 2.0),
        "forget_Q_A_PERT_Prob": losses([2.0 + shift, 3.0 + shift], [1.0 + shift, 1.0 + shift]),
        "forget_truth_ratio": indexed({"score": -1.0}, {"score": -1.0}),
        "mia_min_k": {
            "forget": indexed({"score": 1.0 + shift}, {"score": 2.0}),
            "holdout": indexed({"score": 2.0}, {"score": 3.0}),
        },
    }
    for group in ("retain", "ra", "wf"):
        right = "PARA_Prob" if group == "retain" else "Prob"
        log |= {
            f"{group}_Q_A_Prob": losses(0.5, 1.0),
            f"{group}_Q_A_{right}": losses(0.5, 1.0),
            f"{group}_Q_A_PERT_Prob": losses([1.0, 2.0], [3.0, 0.5]),
            f"{group}_Truth_Ratio": indexed({"score": -1.0}, {"score": -1.0}),
            f"{group}_Q_A_ROUGE": indexed({"rougeL_recall": 0.5}, {"rougeL_recall": 0.7}),
        }
        if group != "retain":
            log[f"{group}_Q_A_Prob_normalised"] = indexed({"prob": -1.0}, {"prob": -1.0})
    return log


def test_aggregates_are_made_of_items_and_not_taken_over():
    found = summarize_tofu_log(made_log(), made_log(shift=1.0))
    p = np.exp
    assert found["retain_Q_A_Prob"] == pytest.approx((p(-0.5) + p(-1)) / 2)
    wrong = [(p(-1) + p(-2)) / 2, (p(-3) + p(-0.5)) / 2]
    assert found["ra_Q_A_PERT_Prob"] == pytest.approx(np.mean(wrong))
    shares = [p(-0.5) / (p(-0.5) + p(-1) + p(-2)), p(-1) / (p(-1) + p(-3) + p(-0.5))]
    assert found["wf_Q_A_Prob_normalised"] == pytest.approx(np.mean(shares), rel=1e-9)
    ratios = [p(-2.5) / p(-1), p(-1) / p(-2)]
    wanted = np.mean([ratios[0], 1 / ratios[1]])
    assert found["forget_truth_ratio"] == pytest.approx(wanted, rel=1e-9)
    assert found["mia_min_k"] == pytest.approx(3.5 / 4)
    nine = ["Q_A_ROUGE", "Truth_Ratio", "Q_A_Prob_normalised"]
    values = [found[f"{g}_{name}"] for g in ("ra", "wf") for name in nine]
    values += [found[f"retain_{name}"] for name in ("Q_A_Prob", "Q_A_ROUGE", "Truth_Ratio")]
    assert found["model_utility"] == pytest.approx(9 / sum(1 / x for x in values))
    assert found["forget_quality_distance"] == 0.5 and 0 < found["forget_quality"] <= 1
    assert found["privleak"] == pytest.approx(100 * (0.5 / 4 - 1 / 4) / (1 / 4))


def test_a_missing_reference_is_said_and_leaves_out_what_needs_it():
    with pytest.warns(UserWarning, match="never saw the forget rows") as said:
        found = summarize_tofu_log(made_log(), None)
    assert len(said) == 2
    assert not {"forget_quality", "privleak"} & set(found) and "model_utility" in found


def test_a_reference_of_another_split_is_refused():
    other = made_log() | {"forget_truth_ratio": indexed({"score": 1.0})}
    del other["forget_Q_A_PERT_Prob"]
    with pytest.raises(DataError, match="1 forget items and this one 2"):
        summarize_tofu_log(made_log(), other)


@pytest.mark.parametrize("log", [{}, {"forget_Q_A_Prob": {"agg_value": 0.5}}])
def test_what_is_no_log_is_refused(log):
    with pytest.raises(DataError, match="log"):
        summarize_tofu_log(log, None)


def test_muse_reads_the_f1():
    items = indexed({"rougeL_f1": 0.5, "rougeL_recall": 1.0}, {"rougeL_f1": 0.25})
    log = {"forget_verbmem_ROUGE": items, "mia_min_k": made_log()["mia_min_k"]}
    found = summarize_muse_log(log, made_log())
    assert found["forget_verbmem_ROUGE"] == 0.375 and found["privleak"] == 0
