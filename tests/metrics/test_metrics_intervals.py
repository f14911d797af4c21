# SPDX-License-Identifier: Apache-2.0
"""Intervals against SciPy's and against formulas in doubles, and how often they hold the truth."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import bootstrap, ks_2samp, t, ttest_ind

from unilogit_jax.errors import DataError
from unilogit_jax.metrics import (
    Interval,
    ks_interval,
    mean_interval,
    paired_interval,
    seed_spread,
    welch_interval,
)
from unilogit_jax.metrics import intervals as intervals_file


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


def test_bootstrap_of_a_mean_is_scipys_up_to_the_draws(rng):
    values = rng.gamma(1.0, 1.0, 60)  # skewed, so that a symmetric interval would be seen
    wanted = bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=1)
    found = mean_interval(values, samples=20_000)
    spread = values.std() / math.sqrt(len(values))
    for mine, theirs in zip(found[1:], wanted.confidence_interval, strict=True):
        assert mine == pytest.approx(theirs, abs=0.05 * spread)
    assert found.high - found.value > 1.05 * (found.value - found.low)


def test_blocks_of_draws_are_what_all_at_once_would_be(rng, monkeypatch):
    values = rng.normal(size=30)
    whole = mean_interval(values, samples=100)
    monkeypatch.setattr(intervals_file, "_BLOCK", 30 * 7)
    assert mean_interval(values, samples=100) == whole


def test_a_pair_is_drawn_together(rng):
    hard = rng.normal(0, 1, 100)  # what both models find hard
    a, b = hard + rng.normal(0, 0.05, 100), hard + 0.1 + rng.normal(0, 0.05, 100)
    found = paired_interval(a, b, samples=5000)
    assert found.value == pytest.approx(np.mean(b) - np.mean(a), abs=1e-12)
    paired = bootstrap(
        (a, b),
        lambda x, y, axis: np.mean(y - x, axis=axis),
        paired=True,
        method="percentile",
        n_resamples=5000,
        rng=1,
    ).confidence_interval
    assert found[1:] == pytest.approx(tuple(paired), abs=2e-3)
    assert not found.holds_zero, "drawn apart, the interval would be ten times as wide"
    assert paired_interval(a, a) == Interval(0.0, 0.0, 0.0)
    with pytest.raises(DataError, match="100 and 99"):
        paired_interval(a, b[:99])


def test_the_spread_over_seeds_is_students():
    values = np.array([0.31, 0.36, 0.28, 0.40])
    found = seed_spread(values, level=0.9)
    mean = math.fsum(values) / 4
    deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in values) / 3)
    assert (found.mean, found.deviation) == pytest.approx((mean, deviation), rel=1e-12)
    wanted = t.interval(0.9, 3, loc=mean, scale=deviation / 2)
    assert found.interval[1:] == pytest.approx(wanted, rel=1e-12)
    with pytest.raises(DataError, match="two runs"):
        seed_spread(values[:1])


@pytest.mark.parametrize("sizes", [(3, 3), (2, 5), (10, 4)])
def test_the_difference_of_settings_is_welchs(rng, sizes):
    a, b = rng.normal(0.3, 0.02, sizes[0]), rng.normal(0.35, 0.1, sizes[1])
    wanted = ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    found = welch_interval(a, b)
    assert found.value == pytest.approx(b.mean() - a.mean(), rel=1e-12)
    assert found[1:] == pytest.approx(tuple(wanted), rel=1e-9)


def test_settings_without_any_spread_differ_by_what_they_differ():
    assert welch_interval(np.full(3, 0.25), np.full(2, 0.25)).holds_zero
    assert not welch_interval(np.full(3, 0.25), np.full(2, 0.5)).holds_zero


def test_a_paired_interval_holds_the_true_difference_as_often_as_it_says():
    rng, inside = np.random.default_rng(4), 0
    for trial in range(200):
        a = rng.normal(0, 1, 80)
        b = a + rng.normal(0.2, 0.5, 80)
        found = paired_interval(a, b, samples=300, seed=trial)
        inside += found.low <= 0.2 <= found.high
    assert 0.9 <= inside / 200 <= 0.98
