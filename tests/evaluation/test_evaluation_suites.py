# SPDX-License-Identifier: Apache-2.0
"""Logs of suites: the published layout, and numbers that follow from the log alone."""

import json
from dataclasses import replace

import numpy as np
import pytest

from unilogit_jax.data import Probe
from unilogit_jax.errors import DataError
from unilogit_jax.evaluation import SUITES, Evaluation, Item, Scores, summarize
from unilogit_jax.evaluation.item_scores import token_scores
from unilogit_jax.metrics import ngram_entropy, summarize_muse_log, summarize_tofu_log

ATTACKS = ("mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus")


def item(group: str, seed: int, *, wrong: int = 5) -> Item:
    rng = np.random.default_rng(seed)
    nll, paraphrase = (float(rng.uniform(0, 3)) for _ in range(2))
    names = ("exact_memorization", "extraction_strength", "extraction_strength_exact", *ATTACKS)
    return Item(
        group=group,
        question=f"Q{seed}?",
        truth="True.",
        answer="Said.",
        nll=nll,
        correct_nll=paraphrase if group in ("forget", "retain") else nll,
        wrong_nll=tuple(rng.uniform(0, 4, wrong).tolist()),
        exact=False,
        rouge_l=float(rng.uniform()),
        malformed=False,
        scores={name: float(rng.uniform()) for name in (*names, "rouge1_recall", "rougeL_f1")},
    )


def tofu(start: int = 0) -> Evaluation:
    groups = {"forget": 5, "retain": 5, "real_authors": 3, "world_facts": 3, "holdout": 0}
    items = [
        item(group, start + 100 * g + k, wrong=wrong)
        for g, (group, wrong) in enumerate(groups.items())
        for k in range(6)
    ]
    return Evaluation(tuple(items), float("nan"), "tofu")


PUBLISHED = {
    *(f"{p}_Q_A_{k}" for p in ("forget", "retain") for k in ("Prob", "ROUGE", "PARA_Prob")),
    *(f"{p}_Q_A_{k}" for p in ("ra", "wf") for k in ("Prob", "ROUGE", "Prob_normalised")),
    *(f"{p}_Q_A_PERT_Prob" for p in ("forget", "retain", "ra", "wf")),
    *("forget_truth_ratio", "retain_Truth_Ratio", "ra_Truth_Ratio", "wf_Truth_Ratio"),
    *("exact_memorization", "extraction_strength", "model_utility", "privleak", "forget_quality"),
    *(*ATTACKS, "mia_reference"),
}
"""All names of a published log, but mia_gradnorm, which has to be asked for."""


def test_a_tofu_log_has_the_published_layout():
    suite = SUITES["tofu"]
    log = json.loads(json.dumps(suite.full_log(tofu(), suite.log(tofu(7)))))
    assert set(log) >= PUBLISHED
    assert set(log) - PUBLISHED == {"extraction_strength_exact", "forget_quality_distance"}
    assert list(log["ra_Q_A_PERT_Prob"]["value_by_index"]["5"]) == ["prob", "avg_loss"]
    assert len(log["wf_Q_A_PERT_Prob"]["value_by_index"]["0"]["avg_loss"]) == 3
    shown = log["forget_Q_A_ROUGE"]["value_by_index"]["2"]
    assert shown["input"] == "Q2?" and shown["generation"] == "Said."
    assert {"forget", "holdout", "auc", "agg_value"} == set(log["mia_min_k"])


def with_norms(evaluation: Evaluation) -> Evaluation:
    """With a gradient norm of every item."""
    items = [
        replace(one, scores={**one.scores, "mia_gradnorm": float(k % 7)})
        for k, one in enumerate(evaluation.items)
    ]
    return replace(evaluation, items=tuple(items))


def counted(member, other) -> float:
    """An AUC by counting pairs, ties a half."""
    return float(np.mean([(a < b) + (a == b) / 2 for a in member for b in other]))


def sides(entry) -> list[list[float]]:
    """The scores of forget and hold-out items, as the log has them."""
    return [
        [entry[side]["value_by_index"][str(k)]["score"] for k in range(6)]
        for side in ("forget", "holdout")
    ]


def test_gradient_norms_that_were_asked_for_are_an_attack_of_the_log():
    evaluation, suite = with_norms(tofu()), SUITES["tofu"]
    entry = json.loads(json.dumps(suite.full_log(evaluation, None)))["mia_gradnorm"]
    assert set(entry) == {"forget", "holdout", "auc", "agg_value"}
    wanted = [
        [item.scores["mia_gradnorm"] for item in evaluation.of(side)]
        for side in ("forget", "holdout")
    ]
    assert sides(entry) == wanted
    assert entry["auc"] == entry["agg_value"] == pytest.approx(counted(*wanted))
    assert entry["holdout"]["agg_value"] == pytest.approx(np.mean(wanted[1]))


def test_losses_are_set_against_those_of_gold_or_of_a_log():
    suite, own, gold = SUITES["tofu"], tofu(), tofu(7)
    entry = suite.full_log(own, gold)["mia_reference"]
    assert set(entry) == {"forget", "holdout", "auc", "agg_value"}
    assert entry == suite.full_log(own, json.loads(json.dumps(suite.log(gold))))["mia_reference"]
    wanted = [
        [
            a.scores["mia_loss"] - b.scores["mia_loss"]
            for a, b in zip(own.of(side), gold.of(side), strict=True)
        ]
        for side in ("forget", "holdout")
    ]
    np.testing.assert_allclose(sides(entry), wanted, rtol=1e-12)
    assert entry["agg_value"] == entry["auc"] == pytest.approx(counted(*wanted), abs=1e-12)
    assert entry["auc"] != suite.log(own)["mia_loss"]["auc"], "or this would show nothing"
    assert "mia_reference" not in suite.full_log(own, None)


def test_losses_of_other_items_or_none_are_no_reference():
    suite = SUITES["muse"]
    groups = "privleak_forget", "privleak_holdout"
    items = tuple(item(g, 10 * n + k, wrong=0) for n, g in enumerate(groups) for k in range(4))
    own = Evaluation(items, float("nan"), "muse")
    fewer, without = suite.log(replace(own, items=items[1:])), suite.log(own)
    del without["mia_loss"]
    for reference in (fewer, without):
        log = suite.full_log(own, reference)
        assert "mia_reference" not in log and "privleak" in log
    assert suite.full_log(own, own)["mia_reference"]["auc"] == 0.5


def test_aggregates_of_a_log_follow_from_its_items():
    suite = SUITES["tofu"]
    reference = suite.log(tofu(7))
    log = json.loads(json.dumps(suite.full_log(with_norms(tofu()), reference)))
    again = summarize_tofu_log(log, reference)
    assert {"mia_gradnorm", "mia_reference"} <= set(again)
    for name, value in again.items():
        assert log[name]["agg_value"] == pytest.approx(value, abs=1e-12), name


def test_the_summary_has_the_suites_numbers_against_gold_or_a_log():
    gold = tofu(7)
    own, of_log = summarize(tofu(), gold), summarize(tofu(), SUITES["tofu"].log(gold))
    assert own == of_log
    assert {"model_utility", "privleak", "membership_auc", "forget_ks_p"} <= set(own)
    alone = summarize(tofu())
    assert "model_utility" in alone and not {"privleak", "forget_ks_p"} & set(alone)
    items = tofu().of("forget")
    strength = np.mean([i.scores["extraction_strength_exact"] for i in items])
    assert own["extraction_strength"] == pytest.approx(strength)


def test_a_muse_log_reads_its_panels():
    groups = "forget_knowmem retain_knowmem verbmem privleak_forget privleak_holdout".split()
    items = tuple(item(g, 10 * n + k, wrong=0) for n, g in enumerate(groups) for k in range(4))
    evaluation, suite = Evaluation(items, float("nan"), "muse"), SUITES["muse"]
    log = suite.full_log(evaluation, None)
    assert set(log) == {
        *("forget_knowmem_ROUGE", "retain_knowmem_ROUGE", "forget_verbmem_ROUGE"),
        *("exact_memorization", "extraction_strength", "extraction_strength_exact"),
        *ATTACKS,
    }
    with pytest.warns(UserWarning, match="privleak"):
        found = summarize_muse_log(log, None)
    wanted = np.mean([i.scores["rougeL_f1"] for i in evaluation.of("verbmem")])
    assert found["forget_verbmem_ROUGE"] == pytest.approx(wanted)
    assert summarize(evaluation)["forget_verbatim"] == pytest.approx(wanted)


def test_panels_are_measured_each_in_its_way():
    base = replace(item("forget_level1", 0, wrong=0), truth="Carrie", answer="Carrie was first")
    items = (
        base,
        replace(base, answer=""),
        replace(base, group="forget_mia", nll=2.5),
        replace(base, group="mmlu", nll=1.0, wrong_nll=(1.5, 2.0, 3.0)),
        replace(base, group="mmlu", nll=1.0, wrong_nll=(0.5, 2.0, 3.0)),
        replace(base, group="bbh", truth="(A)", answer="It is B. So the answer is (a)."),
        replace(base, group="triviaqa", truth="x", others=("New York City",), answer="new york"),
        replace(base, group="fluency", answer="go go go go"),
    )
    evaluation, suite = Evaluation(items, float("nan"), "rwku"), SUITES["rwku"]
    log = suite.full_log(evaluation, None)
    assert {name: entry["agg_value"] for name, entry in log.items()} == pytest.approx(
        {
            "forget_level1": 0.5,
            "forget_mia": 250.0,
            "mmlu": 0.5,
            "bbh": 1.0,
            "triviaqa": 2 * 2 / 5,
            "fluency": 0.0,
        }
    )
    assert summarize(evaluation) == pytest.approx({k: v["agg_value"] for k, v in log.items()})
    text = "Ann can't wait. Bo can't."
    write = Evaluation((replace(base, group="fluency", answer=text),), float("nan"), "rwku")
    words = ["Ann", "ca", "n't", "wait", ".", "Bo", "ca", "n't", "."]
    assert summarize(write)["fluency"] == pytest.approx(100 * ngram_entropy(words))
    harm = Evaluation((replace(items[3], group="wmdp_bio"),), float("nan"), "wmdp")
    assert summarize(harm) == {"wmdp_bio": 1.0}


@pytest.mark.parametrize(
    ("tokens", "wrong_tokens", "right"),
    [
        (2, (4, 5), 1.0),  # 2.0 in all against 3.2 and 4.5
        (5, (4, 5), 0.0),  # the same means, but 5.0 in all
        (5, (9, 9), 1.0),
    ],
)
def test_truthful_answers_are_compared_as_a_whole(tokens, wrong_tokens, right):
    asked = replace(item("truthfulqa", 0), nll=1.0, wrong_nll=(0.8, 0.9))
    asked = replace(asked, tokens=tokens, wrong_tokens=wrong_tokens)
    assert summarize(Evaluation((asked,), float("nan"), "rwku")) == {"truthfulqa": right}
    same = replace(asked, wrong_nll=(1.0,), wrong_tokens=(tokens,))
    assert summarize(Evaluation((same,), float("nan"), "rwku")) == {"truthfulqa": 0.0}


def test_items_of_an_earlier_version_are_refused_where_lengths_matter():
    old = item("truthfulqa", 0, wrong=2)  # made without numbers of tokens
    with pytest.raises(DataError, match=r"'Q0\?'.*how many tokens.*Evaluate the model again"):
        summarize(Evaluation((old,), float("nan"), "rwku"))
    assert summarize(Evaluation((replace(old, group="mmlu"),), float("nan"), "rwku"))


@pytest.mark.parametrize(
    "probe", [Probe("Who?", "Ann.", "forget"), Probe("Ann", " lives.", "verbmem", literal=True)]
)
def test_memorisation_leaves_the_last_token_out_as_published_logs_do(probe):
    """Of a passage too, which has no end token."""
    hits = np.array([True, True, True, False])
    found = token_scores(probe, 0, Scores((np.full(4, -1.0),), (hits,)), "text")
    assert (found["exact_memorization"], found["extraction_strength"]) == (1.0, 1.0)
    assert found["extraction_strength_exact"] == (0.0 if probe.literal else 1.0)
