# SPDX-License-Identifier: Apache-2.0
"""Harmonic means, truth-ratio aggregates and bootstrap intervals, from their formulas."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import hmean, ks_2samp

from unilogit_jax.errors import DataError
from unilogit_jax.metrics import (
    ks_interval,
    mean_interval,
    model_utility,
    truth_ratio_score,
)


def test_utility_is_the_harmonic_mean():
    values = np.random.default_rng(0).uniform(0.1, 1, 9)
    assert model_utility(list(values)) == pytest.approx(float(hmean(values)), rel=1e-12)
    assert model_utility([0.5, 0.0, 1.0]) == 0
    for wrong in ([], [0.5, -0.1]):
        with pytest.raises(DataError, match="at least 0"):
            model_utility(wrong)


def test_aggregates_of_truth_ratios():
    ratios = np.array([0.0, 0.5, 1.0, 4.0])
    wanted = np.mean([0.0, 0.5, 1 / (1 + 1e-10), 1 / (4 + 1e-10)])
    assert truth_ratio_score(ratios, aggregate="closer_to_1") == pytest.approx(wanted, rel=1e-12)
    assert truth_ratio_score(ratios, aggregate="true_better") == (1 + 0.5) / 4
    with pytest.raises(DataError):
        truth_ratio_score(np.zeros(0), aggregate="true_better")


def test_intervals_hold_the_mean_and_shrink_with_more_items():
    rng = np.random.default_rng(1)
    few, many = rng.normal(0, 1, 40), rng.normal(0, 1, 4000)
    for values in (few, many):
        found = mean_interval(values)
        assert found.value == pytest.approx(values.mean(), abs=1e-12)
        # The normal approximation, which a bootstrap of normal data comes near.
        half = 1.96 * values.std() / math.sqrt(len(values))
        assert found.high - found.low == pytest.approx(2 * half, rel=0.12)
    assert mean_interval(few, seed=3) == mean_interval(few, seed=3)


def test_the_interval_of_the_ks_distance_holds_the_true_one():
    rng = np.random.default_rng(2)
    true = 2 * NormalDist().cdf(0.25) - 1  # of two normals half a deviation apart
    inside = 0
    for trial in range(60):
        a, b = rng.normal(0, 1, 200), rng.normal(0.5, 1, 200)
        found = ks_interval(a, b, samples=200, seed=trial)
        assert found.value == pytest.approx(ks_2samp(a, b).statistic, abs=1e-12)
        inside += found.low <= true <= found.high
    assert inside / 60 > 0.8, "plain quantiles hold it in two of three"
    assert found == ks_interval(a, b, samples=200, seed=59)
