# SPDX-License-Identifier: Apache-2.0
"""Membership scores against their formulas written out, and the AUC against counting pairs."""

import inspect
import zlib

import numpy as np
import pytest

from unilogit_jax.errors import DataError
from unilogit_jax.metrics import (
    auc,
    min_k,
    min_k_plus_plus,
    privleak,
    relative_difference,
    zlib_score,
)
from unilogit_jax.metrics import membership as membership_file


def counted(member, other):
    pairs = [(m < o) + (m == o) / 2 for m in member for o in other]
    return sum(pairs) / len(pairs)


@pytest.mark.parametrize("seed", range(4))
def test_the_auc_counts_pairs_and_halves_ties(seed):
    rng = np.random.default_rng(seed)
    member, other = rng.integers(0, 6, 17) / 2, rng.integers(1, 7, 23) / 2
    assert auc(member, other) == pytest.approx(counted(member, other), abs=1e-12)
    assert auc(member, other) + auc(other, member) == pytest.approx(1, abs=1e-12)
    assert auc(np.exp(member), np.exp(other)) == auc(member, other), "only the order counts"


def test_an_auc_of_nothing_is_refused():
    assert auc(np.ones(3), np.ones(2)) == 0.5
    with pytest.raises(DataError, match="got 0 and 2"):
        auc(np.ones(0), np.ones(2))


@pytest.mark.parametrize("length", [2, 3, 5, 11, 40])
def test_min_k_takes_the_least_expected_tokens(length):
    rng = np.random.default_rng(length)
    logprobs = -rng.exponential(2.0, length).astype(np.float32)
    kept = sorted(float(x) for x in logprobs[:-1])
    count = max(1, int(0.4 * len(kept)))
    assert min_k(logprobs) == pytest.approx(-sum(kept[:count]) / count, rel=1e-12)
    every = sorted(float(x) for x in logprobs)
    count = int(0.4 * length)
    of_muse = min_k(logprobs, variant="muse")
    if count:
        assert of_muse == pytest.approx(-sum(every[:count]) / count, rel=1e-12)
    else:
        assert np.isnan(of_muse)


@pytest.mark.parametrize("seed", range(3))
def test_min_k_plus_plus_measures_against_the_whole_distribution(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (12, 9))
    logits[3] = 0.0  # uniform: no variance, which is held from below
    labels = rng.integers(0, 9, 12)
    z = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    p = np.exp(z)
    scores = []
    for t in range(11):  # without the last token
        mean = sum(p[t, k] * z[t, k] for k in range(9))
        variance = sum(p[t, k] * (z[t, k] - mean) ** 2 for k in range(9))
        scores.append((z[t, labels[t]] - mean) / max(variance, 1e-6) ** 0.5)
    wanted = -np.mean(sorted(scores)[:4])
    mean = (p * z).sum(1)
    variance = (p * (z - mean[:, None]) ** 2).sum(1)
    got = min_k_plus_plus(z[np.arange(12), labels], mean, variance)
    assert got == pytest.approx(wanted, rel=1e-9)


def test_zlib_divides_by_compressed_bytes():
    text = "Die Straße, the street; the street."
    assert zlib_score(1.5, text) == 1.5 / len(zlib.compress(text.encode("utf-8")))


def test_privleak_is_the_relative_difference_of_what_is_hidden():
    assert privleak(1.0, 0.4) == pytest.approx(-100)
    assert privleak(0.4, 0.4) == 0
    assert privleak(0.2, 0.6) == pytest.approx(relative_difference(0.8, 0.4))


def test_an_unknown_variant_is_refused_and_not_taken_for_muse():
    # What both functions end in; they themselves are refused by the type check of the tests.
    with pytest.raises(ValueError, match="variant='MUSE' is unknown"):
        inspect.unwrap(membership_file._lowest)(np.ones(3), 0.4, "MUSE")
