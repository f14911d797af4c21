# SPDX-License-Identifier: Apache-2.0
"""Harmonic means and truth-ratio aggregates, from their formulas."""

import inspect

import numpy as np
import pytest
from scipy.stats import hmean

from unilogit_jax.errors import DataError
from unilogit_jax.metrics import model_utility, truth_ratio_score


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
    # Unwrapped: the run-time type check of the tests would refuse it first.
    with pytest.raises(ValueError, match="aggregate='closer_to_one' is unknown"):
        inspect.unwrap(truth_ratio_score)(ratios, aggregate="closer_to_one")
