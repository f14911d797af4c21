# SPDX-License-Identifier: Apache-2.0
"""Counted probabilities against a plain dictionary of counts."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from unilogit_jax.data import Rows, ngram_log_odds
from unilogit_jax.types import IGNORE

V = 7


def rows_of(count, length, seed):
    rng = np.random.default_rng(seed)
    # Few tokens are common, so that long histories occur again.
    tokens = rng.choice(V, (count, length), p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.05, 0.0]).astype(
        np.int32
    )
    lengths = rng.integers(2, length + 1, count).astype(np.int32)
    labels = np.full_like(tokens, IGNORE)
    for r, n in enumerate(lengths):
        labels[r, : n - 1] = tokens[r, 1:n]
        tokens[r, n:] = V - 1  # nobody may look at padding
    return Rows(tokens, labels, lengths)


def direct(rows, order):
    """P(w | history) by dictionaries, written from the recursion."""
    follow = defaultdict(Counter)
    for ids, n in zip(rows.tokens, rows.lengths, strict=True):
        for i in range(n):
            for back in range(min(order, i + 1)):
                follow[tuple(ids[i - back : i])][ids[i]] += 1

    def p(word, history):
        shorter = p(word, history[1:]) if history else 1 / V
        seen = follow.get(history)
        if not seen:
            return shorter
        kinds = len(seen)
        return (seen[word] + kinds * shorter) / (sum(seen.values()) + kinds)

    return p


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


@pytest.mark.parametrize("order", [1, 2, 4])
def test_they_are_those_of_a_plain_dictionary(order):
    counted, asked = rows_of(12, 9, 0), rows_of(5, 11, 1)
    found = sigmoid(ngram_log_odds(counted, asked, vocab_size=V, order=order))
    p = direct(counted, order)
    for r, t in np.argwhere(asked.labels >= 0):
        history = tuple(asked.tokens[r, max(0, t + 2 - order) : t + 1]) if order > 1 else ()
        assert found[r, t] == pytest.approx(p(asked.labels[r, t], history), rel=1e-5)


def test_they_sum_to_one_over_the_vocabulary():
    counted, asked = rows_of(12, 9, 0), rows_of(5, 11, 1)
    total = np.zeros(asked.labels.shape)
    for word in range(V):
        labels = np.where(asked.labels >= 0, word, IGNORE)
        rows = Rows(asked.tokens, labels, asked.lengths)
        total += sigmoid(ngram_log_odds(counted, rows, vocab_size=V))
    np.testing.assert_allclose(total[asked.labels >= 0], 1.0, rtol=1e-5)


def test_positions_without_a_label_hold_zero():
    asked = rows_of(5, 11, 1)
    found = ngram_log_odds(rows_of(3, 5, 0), asked, vocab_size=V)
    assert (found[asked.labels < 0] == 0).all() and np.isfinite(found).all()


def test_a_large_vocabulary_does_not_overflow():
    rows = rows_of(4, 8, 0)
    far = Rows(
        rows.tokens + 250_000,
        np.where(rows.labels >= 0, rows.labels + 250_000, IGNORE),
        rows.lengths,
    )
    near = Rows(rows.tokens, rows.labels, rows.lengths)
    size = 260_000
    a, b = (ngram_log_odds(x, x, vocab_size=size) for x in (far, near))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("options", [{"vocab_size": 1}, {"vocab_size": 5, "order": 0}])
def test_sizes_are_checked(options):
    rows = rows_of(2, 4, 0)
    with pytest.raises(ValueError, match="has to be"):
        ngram_log_odds(rows, rows, **options)
