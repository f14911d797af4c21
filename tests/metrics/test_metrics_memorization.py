# SPDX-License-Identifier: Apache-2.0
"""Exact memorisation and extraction strength against loops written from their definitions."""

import inspect
import itertools
import math

import numpy as np
import pytest

from unilogit_jax.metrics import exact_memorization, extraction_strength


def strength(hits, *, at_least_one):
    """1 - k/T for the first start from which all that follow are hits."""
    total = len(hits)
    for k in range(total + (not at_least_one)):
        if all(hits[k:]):
            return 1 - k / total
    return 1 - (total - 1) / total


@pytest.mark.parametrize("length", [1, 2, 5])
def test_every_pattern_of_hits(length):
    for hits in itertools.product([False, True], repeat=length):
        array = np.array([*hits, True])
        assert extraction_strength(array) == strength(hits, at_least_one=False), hits
        theirs = extraction_strength(array, variant="open_unlearning")
        assert theirs == strength(hits, at_least_one=True), hits
        assert exact_memorization(array) == sum(hits) / length
        whole = extraction_strength(np.array(hits), end_token=False)
        assert whole == strength(hits, at_least_one=False)


def test_a_complete_miss_is_zero_and_no_token_is_no_number():
    assert extraction_strength(np.zeros(5, bool)) == 0
    assert extraction_strength(np.zeros(5, bool), variant="open_unlearning") == 0.25
    empty = np.zeros(1, bool)
    assert math.isnan(extraction_strength(empty)) and math.isnan(exact_memorization(empty))
    assert extraction_strength(empty, variant="open_unlearning") == 0


def test_an_unknown_variant_is_refused_and_not_taken_for_exact():
    with pytest.raises(ValueError, match="variant='openunlearning' is unknown"):
        inspect.unwrap(extraction_strength)(np.ones(3, bool), variant="openunlearning")
