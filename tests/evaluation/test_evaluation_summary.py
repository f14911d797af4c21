# SPDX-License-Identifier: Apache-2.0
"""From items to numbers, rows of a table and a verdict, on items made by hand."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ks_2samp

from unilogit_jax.evaluation import MEANINGS, SUITES, Evaluation, Item, summarize
from unilogit_jax.workflows._results import Results, answer_rows, metric_rows
from unilogit_jax.workflows._verdict import judge

ITEM = Item(
    group="forget",
    question="Who?",
    truth="Vela.",
    answer="Vela.",
    nll=np.log(2.0),
    correct_nll=np.log(2.0),
    wrong_nll=(),
    exact=True,
    rouge_l=1.0,
    malformed=False,
)
RETAIN = replace(ITEM, group="retain")


def with_wrong(correct: float, *wrong: float) -> Item:
    return replace(ITEM, correct_nll=correct, wrong_nll=wrong)


def test_numbers_are_means_over_the_items_of_a_group():
    items = (
        ITEM,
        replace(ITEM, nll=np.log(4.0), exact=False, rouge_l=0.5, malformed=True),
        replace(RETAIN, nll=np.log(5.0), rouge_l=0.25),
    )
    numbers = summarize(Evaluation(items, 0.75))
    assert numbers == pytest.approx(
        {
            "forget_probability": (1 / 2 + 1 / 4) / 2,
            "forget_rouge_l": 0.75,
            "forget_exact_match": 0.5,
            "forget_malformed": 0.5,
            "retain_probability": 0.2,
            "retain_rouge_l": 0.25,
            "retain_exact_match": 1.0,
            "retain_malformed": 0.0,
            "retain_seen_accuracy": 0.75,
        }
    )


def test_what_items_do_not_determine_is_left_out():
    plain = replace(ITEM, question=None, answer=None, rouge_l=0.0)
    numbers = summarize(Evaluation((plain,), float("nan")))
    assert set(numbers) == {"forget_probability", "forget_exact_match"}


def test_plain_text_does_not_count_among_answers():
    plain = replace(ITEM, question=None, answer=None, rouge_l=0.0, malformed=False)
    bad = replace(ITEM, malformed=True)
    numbers = summarize(Evaluation((plain, bad), float("nan")))
    assert numbers["forget_malformed"] == 1.0 and numbers["forget_rouge_l"] == 1.0


def test_choice_is_the_share_of_items_whose_truth_beats_every_wrong_answer():
    items = (with_wrong(1.0, 2.0, 3.0), with_wrong(1.0, 2.0, 0.5), with_wrong(1.0, 1.0, 2.0), ITEM)
    assert summarize(Evaluation(items, 0.0))["forget_choice"] == pytest.approx(1 / 3)


def test_ks_is_scipys_on_the_truth_ratios(rng):
    def draw(shift: float) -> tuple[tuple[Item, ...], np.ndarray]:
        correct, wrong = rng.normal(2 + shift, 0.4, 20), rng.normal(2.2, 0.4, (20, 3))
        items = tuple(with_wrong(c, *w) for c, w in zip(correct, wrong, strict=True))
        return items, np.exp(-wrong.mean(axis=1)) / (np.exp(-correct) + 1e-10)

    (mine, ratios), (gold, gold_ratios) = draw(0.0), draw(0.4)
    expected = ks_2samp(ratios, gold_ratios)
    assert 0 < expected.pvalue < 1
    numbers = summarize(Evaluation(mine, 0.0), Evaluation(gold, 0.0))
    assert numbers["forget_ks_distance"] == pytest.approx(expected.statistic)
    assert numbers["forget_ks_p"] == pytest.approx(expected.pvalue)


def test_ks_needs_a_reference_and_is_zero_against_itself():
    items = tuple(with_wrong(1.0, x) for x in (0.5, 1.0, 2.0))
    same = Evaluation(items, 0.0)
    assert "forget_ks_distance" not in summarize(same)
    numbers = summarize(same, same)
    assert numbers["forget_ks_distance"] == 0.0 and numbers["forget_ks_p"] == 1.0


def with_min_k(group: str, *scores: float) -> tuple[Item, ...]:
    return tuple(replace(ITEM, group=group, scores={"mia_min_k": score}) for score in scores)


def test_own_rows_that_no_model_has_seen_give_membership():
    unseen = with_min_k("holdout", 2.0, 3.0)
    own = Evaluation((*with_min_k("forget", 1.0, 2.0, 2.5), *unseen), 0.0)
    gold = Evaluation((*with_min_k("forget", 2.5, 4.0, 1.0), *unseen), 0.0)
    alone, beside = summarize(own), summarize(own, gold)
    # Of six pairs the forget row is lower in four, and equal in one.
    assert alone["membership_auc"] == pytest.approx(4.5 / 6) and "privleak" not in alone
    # Gold: of six pairs lower in two (1.0) and one (2.5 < 3.0).
    wanted = 100 * ((1 - 4.5 / 6) - (1 - 3 / 6)) / (1 - 3 / 6)
    assert beside["privleak"] == pytest.approx(wanted)
    assert beside["membership_auc"] == alone["membership_auc"]
    one_side = Evaluation(with_min_k("forget", 1.0), 0.0)
    unscored = Evaluation((ITEM, *unseen), 0.0)
    for lacking in (one_side, unscored):
        assert not {"membership_auc", "privleak"} & set(summarize(lacking, gold))
        assert "privleak" not in summarize(own, lacking)


def test_every_number_has_a_meaning_and_every_meaning_a_number():
    items = (with_wrong(1.0, 2.0), RETAIN)
    full = Evaluation(items, 0.5)
    of_suites = {name for suite in SUITES.values() for name in suite.names.values()}
    own = list(summarize(full, full))
    assert own == [name for name in MEANINGS if name in own]
    assert set(own) | of_suites == set(MEANINGS)
    for meaning in MEANINGS.values():
        assert meaning.title and len(meaning.explanation.split()) > 3
    assert len({m.title for m in MEANINGS.values()}) == len(MEANINGS)


@pytest.mark.parametrize(
    ("before", "after", "passed"),
    [(0.95, 0.93, True), (0.95, 0.92, True), (0.95, 0.919, False), (0.9, 1.0, True)],
)
def test_retain_accuracy_may_fall_by_three_points(before, after, passed):
    verdict = judge(
        {"forget_exact_match": 1.0, "retain_exact_match": before},
        {"forget_exact_match": 0.0, "retain_exact_match": after},
    )
    assert verdict.passed is passed
    assert str(verdict).startswith("PASSED" if passed else "FAILED")


@pytest.mark.parametrize(
    ("before", "after", "passed"),
    [(0.8, 0.4, True), (0.8, 0.41, False), (1.0, 1.0, False), (0.0, 0.0, True)],
)
def test_at_most_half_of_the_forgotten_answers_may_survive(before, after, passed):
    verdict = judge({"forget_exact_match": before}, {"forget_exact_match": after})
    assert verdict.passed is passed
    assert ("word for word" in verdict.text.partition(".")[0]) is not passed


def test_a_verdict_on_a_model_that_knew_nothing_says_that_it_says_little():
    says_little = [
        "says little" in judge({"forget_exact_match": known}, {"forget_exact_match": 0.0}).text
        for known in (0.0, 0.5)
    ]
    assert says_little == [True, False]


def test_a_verdict_names_every_problem_and_the_numbers():
    text = judge(
        {"forget_exact_match": 1.0, "retain_exact_match": 0.9},
        {"forget_exact_match": 0.8, "retain_exact_match": 0.8},
    ).text
    for part in ("More than half", "fell by 10.0 points", "100.0 % -> 80.0 %", "90.0 % -> 80.0 %"):
        assert part in text


def test_table_rows_follow_the_meanings_and_mark_what_is_not_known():
    rows = metric_rows(
        {
            "after": {"retain_exact_match": 0.5, "forget_ks_p": 0.00012},
            "gold": {"retain_exact_match": 1.0},
        }
    )
    assert [row.name for row in rows] == ["truth-ratio KS p-value", "retain held-out accuracy"]
    assert rows[0].values == {"after": "1.2e-04", "gold": "-"}
    assert rows[1].values == {"after": "0.500", "gold": "1.000"}
    assert [row.direction for row in rows] == ["higher", "higher"]


def test_answer_rows_show_the_same_question_to_every_model_with_gold_last():
    def evaluation(mark: str) -> Evaluation:
        forget = tuple(
            replace(ITEM, question=f"Q{k}", answer=f"{mark}{k}", malformed=mark == "after")
            for k in range(12)
        )
        plain = replace(RETAIN, question=None, answer=None)
        return Evaluation((*forget, plain, replace(RETAIN, answer=mark)), 1.0)

    results = Results({name: evaluation(name) for name in ("gold", "before", "after")})
    rows = answer_rows(results)
    forget = [row for row in rows if row.group == "forget"]
    assert len(forget) == 5 and len(rows) == 6, "five of twelve, and the one that is a question"
    for row in forget:
        k = row.question.removeprefix("Q")
        assert list(row.answers) == ["before", "after", "gold"]
        assert row.answers == {name: f"{name}{k}" for name in ("before", "after", "gold")}
        assert row.malformed == {"before": False, "after": True, "gold": False}
        assert row.truth == "Vela."
    assert len({row.question for row in forget}) == 5
