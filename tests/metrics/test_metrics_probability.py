# SPDX-License-Identifier: Apache-2.0
"""Probability, truth ratio, choice accuracy and KS test against loops written from the formulas."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jaxtyping import TypeCheckError

from unilogit_jax.errors import DataError
from unilogit_jax.metrics import (
    choice_accuracy,
    ks_distance,
    normalised_probability,
    probability,
    truth_ratio,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "tofu_golden_pair.json").read_text())

# float32 values: what the model hands over, and none so close that exp() could not tell them apart
nlls = st.floats(0.0, 50.0, width=32)
choices = st.integers(1, 6).flatmap(
    lambda n: st.tuples(
        arrays(np.float64, n, elements=nlls), arrays(np.float64, (n, 3), elements=nlls)
    )
)


def test_probability_is_the_geometric_mean_of_the_token_probabilities():
    tokens = [[0.5, 0.25, 1.0], [0.9], [1e-3, 0.2]]
    nll = np.array([np.mean([-math.log(p) for p in row]) for row in tokens])
    expected = [math.prod(row) ** (1 / len(row)) for row in tokens]
    np.testing.assert_allclose(probability(nll), expected, rtol=1e-14)


def test_results_are_float64_for_float32_input():
    nll, wrong = np.ones(2, np.float32), np.ones((2, 3), np.float32)
    for result in (probability(nll), normalised_probability(nll, wrong), truth_ratio(nll, wrong)):
        assert result.dtype == np.float64


def test_normalised_probability_of_a_case_worked_by_hand():
    # 0.6 / (0.6 + 0.3 + 0.1 + 1e-10)
    result = normalised_probability(-np.log([0.6]), -np.log([[0.3, 0.1]]))
    np.testing.assert_allclose(result, [0.6 / (1 + 1e-10)], rtol=1e-14)


def test_normalised_probability_of_impossible_answers_is_zero():
    assert normalised_probability(np.array([np.inf]), np.array([[np.inf, np.inf]])) == 0.0


def test_truth_ratio_of_a_case_worked_by_hand():
    # wrong answers .5 and .02: geometric mean .1 (arithmetic .26); correct .4
    result = truth_ratio(-np.log([0.4]), -np.log([[0.5, 0.02]]))
    np.testing.assert_allclose(result, [0.1 / (0.4 + 1e-10)], rtol=1e-14)


def test_truth_ratio_of_an_impossible_correct_answer_is_bounded():
    assert truth_ratio(np.array([np.inf]), np.zeros((1, 2)))[0] == pytest.approx(1e10, rel=1e-12)
    assert truth_ratio(np.array([np.inf]), np.full((1, 2), np.inf))[0] == 0.0


@settings(deadline=None)
@given(choices)
def test_truth_ratio_equals_a_loop_over_products(case):
    correct, wrong = case
    expected = [
        math.prod(math.exp(-w) for w in row) ** (1 / len(row)) / (math.exp(-c) + 1e-10)
        for c, row in zip(correct, wrong, strict=True)
    ]
    np.testing.assert_allclose(truth_ratio(correct, wrong), expected, rtol=1e-11)


@settings(deadline=None)
@given(choices)
def test_normalised_probability_equals_a_loop(case):
    correct, wrong = case
    expected = [
        math.exp(-c) / (math.exp(-c) + sum(math.exp(-w) for w in row) + 1e-10)
        for c, row in zip(correct, wrong, strict=True)
    ]
    np.testing.assert_allclose(normalised_probability(correct, wrong), expected, rtol=1e-12)


@settings(deadline=None)
@given(choices)
def test_choice_accuracy_equals_a_count_and_ignores_the_order_of_wrong_answers(case):
    correct, wrong = case
    count = sum(all(c < w for w in row) for c, row in zip(correct, wrong, strict=True))
    assert choice_accuracy(correct, wrong) == count / len(correct)
    assert choice_accuracy(correct, wrong[:, ::-1].copy()) == count / len(correct)


def test_choice_accuracy_counts_a_tie_and_a_nan_as_no_hit():
    correct = np.array([1.0, 2.0, np.nan, 0.0])
    wrong = np.array([[1.5, 3.0], [2.0, 3.0], [1.0, 1.0], [np.nan, 1.0]])
    assert choice_accuracy(correct, wrong) == 0.25


@pytest.mark.parametrize("score", [normalised_probability, truth_ratio, choice_accuracy])
def test_items_without_wrong_answers_are_refused(score):
    with pytest.raises(DataError, match="at least one choice"):
        score(np.ones(3), np.ones((3, 0)))


@pytest.mark.parametrize("score", [normalised_probability, truth_ratio, choice_accuracy])
def test_wrong_answers_of_other_items_are_refused(score):
    with pytest.raises((DataError, TypeCheckError)):
        score(np.ones(3), np.ones((2, 4)))


def test_choice_accuracy_of_no_items_is_refused():
    with pytest.raises(DataError, match="no items"):
        choice_accuracy(np.ones(0), np.ones((0, 2)))


def largest_gap(a, b):
    """Distance of the two empirical distribution functions, from the definition."""
    return max(abs(np.mean(a <= x) - np.mean(b <= x)) for x in (*a, *b))


samples = st.lists(st.integers(-1000, 1000), min_size=8, max_size=9, unique=True)


@settings(deadline=None, max_examples=20)
@given(samples, st.integers(3, 5))
def test_ks_p_value_is_the_share_of_all_splits_at_least_as_far_apart(values, n):
    values = np.array(values, np.float64)
    a, b = values[:n], values[n:]
    observed = largest_gap(a, b)
    splits = list(itertools.combinations(range(len(values)), n))
    far = 0
    for chosen in splits:
        inside = np.isin(np.arange(len(values)), chosen)
        far += largest_gap(values[inside], values[~inside]) >= observed - 1e-12
    result = ks_distance(a, b)
    assert result.distance == pytest.approx(observed, abs=1e-14)
    assert result.p_value == pytest.approx(far / len(splits), rel=1e-9)
    assert (result.n, result.m) == (n, len(values) - n)


@settings(deadline=None)
@given(samples, samples)
def test_ks_distance_is_symmetric_and_ignores_a_monotone_change_of_scale(a, b):
    a, b = np.array(a, np.float64), np.array(b, np.float64)
    result, swapped = ks_distance(a, b), ks_distance(b, a)
    assert result.distance == pytest.approx(swapped.distance, abs=1e-14)
    assert result.p_value == pytest.approx(swapped.p_value, rel=1e-9)
    stretched = ks_distance(a**3, b**3)
    assert stretched[:2] == result[:2]


def test_ks_distance_is_zero_for_equal_and_one_for_separate_samples():
    assert ks_distance(np.arange(5.0), np.arange(5.0))[:2] == (0.0, 1.0)
    far = ks_distance(np.arange(40.0), np.arange(40.0) + 100)
    assert far.distance == 1.0
    assert far.p_value == pytest.approx(2 / math.comb(80, 40), rel=1e-9)


@pytest.mark.parametrize("n", [5, 400])
def test_ks_distance_of_samples_as_near_as_can_be_warns_of_nothing(n):
    # No split of different values is nearer, so that all are at least as far apart.
    near = ks_distance(np.arange(float(n)), np.arange(n) + 0.5)
    assert near[:2] == (pytest.approx(1 / n), pytest.approx(1.0))


def test_ks_distance_reproduces_a_published_forget_quality():
    result = ks_distance(
        np.array(GOLDEN["forget_truth_ratio_full"]), np.array(GOLDEN["forget_truth_ratio_retain"])
    )
    assert result.distance == pytest.approx(GOLDEN["ks_statistic"], abs=1e-12)
    assert result.p_value == pytest.approx(GOLDEN["logged_forget_quality"], rel=1e-6)
    assert (result.n, result.m) == (400, 400)


def test_ks_distance_of_a_diverged_model_is_nan_and_of_nothing_is_refused():
    result = ks_distance(np.array([0.1, np.nan]), np.array([0.2]))
    assert math.isnan(result.distance) and math.isnan(result.p_value)
    with pytest.raises(DataError, match="got 0 and 1"):
        ks_distance(np.ones(0), np.ones(1))
