# SPDX-License-Identifier: Apache-2.0
"""The teacher-forced pass against a float64 log-softmax written from the definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax import models
from unilogit_jax.data import Rows, assemble
from unilogit_jax.evaluation import Scores, make_scorer
from unilogit_jax.sharding import make_mesh
from unilogit_jax.types import IGNORE, RETAIN

CONFIG = models.DecoderConfig.scratch(vocab_size=23, width=16, layers=1, heads=2, kv_heads=2)
LENGTH = 8


@pytest.fixture(scope="module")
def tiny():
    """A model of random weights, its logits function and its scorer."""
    mesh = make_mesh()
    model, params = models.init(CONFIG, jax.random.key(5), mesh=mesh)
    # Freshly drawn heads are nearly flat; this makes arg-maxima clear and the nll uneven.
    params = jax.tree.map(lambda x: x * 3 if x.ndim > 1 else x, params)
    apply = models.apply_fn(model)
    return apply, params, make_scorer(apply, batch_size=8, mesh=mesh, moments=True)


def random_rows(count: int, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 23, (count, LENGTH)).astype(np.int32)
    lengths = rng.integers(4, LENGTH + 1, count).astype(np.int32)
    labels = np.full((count, LENGTH), IGNORE, np.int32)
    for r, size in enumerate(lengths):
        start = rng.integers(1, size - 1)
        labels[r, start : size - 1] = tokens[r, start + 1 : size]
    return Rows(tokens, labels, lengths)


def logits_of(apply, params, rows: Rows) -> np.ndarray:
    sets = np.full(len(rows), RETAIN, np.int32)
    batch = assemble([(rows, np.arange(len(rows)), {})], sets)
    batch = jax.tree.map(jnp.asarray, batch)
    return np.asarray(apply(params, batch).logits(), np.float64)


def oracle(logits: np.ndarray, labels: np.ndarray) -> Scores:
    """Log-probability, arg-max hit, and moments over the vocabulary, at the labelled positions."""
    columns = []
    for z, y in zip(logits, labels, strict=True):
        at = np.flatnonzero(y != IGNORE)
        top = z[at].max(axis=1, keepdims=True)
        logp = z[at] - top - np.log(np.exp(z[at] - top).sum(axis=1, keepdims=True))
        mean = (np.exp(logp) * logp).sum(axis=1)
        variance = (np.exp(logp) * (logp - mean[:, None]) ** 2).sum(axis=1)
        columns.append(
            (logp[np.arange(len(at)), y[at]], logp.argmax(axis=1) == y[at], mean, variance)
        )
    return Scores(*(tuple(column) for column in zip(*columns, strict=True)))


def test_nll_equals_a_float64_log_softmax(tiny):
    apply, params, score = tiny
    rows = random_rows(16)
    expected = oracle(logits_of(apply, params, rows), rows.labels)
    got = score(params, rows)
    np.testing.assert_allclose(got.nll, expected.nll, rtol=1e-5)
    np.testing.assert_array_equal(got.exact, expected.exact)


def test_every_token_of_every_row_has_its_numbers(tiny):
    apply, params, score = tiny
    rows = random_rows(16, seed=4)
    expected = oracle(logits_of(apply, params, rows), rows.labels)
    got = score(params, rows)
    for name in ("logprobs", "hits", "means", "variances"):
        for row, wanted in zip(getattr(got, name), getattr(expected, name), strict=True):
            np.testing.assert_allclose(row, wanted, rtol=2e-5, atol=2e-6, err_msg=name)


def test_exact_means_that_every_answer_token_is_the_argmax(tiny):
    apply, params, score = tiny
    rows = random_rows(16, seed=1)
    greedy = logits_of(apply, params, rows).argmax(axis=-1).astype(np.int32)
    labels = np.where(rows.labels == IGNORE, IGNORE, greedy).astype(np.int32)
    for r in range(0, 16, 2):
        last = np.flatnonzero(labels[r] != IGNORE)[-1]
        labels[r, last] = (labels[r, last] + 1) % 23
    got = score(params, Rows(rows.tokens, labels, rows.lengths))
    assert got.exact.tolist() == [False, True] * 8
    expected = oracle(logits_of(apply, params, rows), labels)
    np.testing.assert_allclose(got.nll, expected.nll, rtol=1e-5)


def test_the_last_batch_is_filled_without_a_trace(tiny):
    _, params, score = tiny
    rows = random_rows(13, seed=2)
    whole = score(params, rows)
    assert whole.nll.shape == whole.exact.shape == (13,)
    for part in (slice(0, 3), slice(5, 13)):
        alone = score(params, Rows(rows.tokens[part], rows.labels[part], rows.lengths[part]))
        np.testing.assert_allclose(alone.nll, whole.nll[part], rtol=1e-6)
        np.testing.assert_array_equal(alone.exact, whole.exact[part])


def test_padding_does_not_change_the_scores(tiny):
    _, params, score = tiny
    rows = random_rows(8, seed=3)
    padding = np.arange(LENGTH) >= rows.lengths[:, None]
    other = np.where(padding, 7, rows.tokens).astype(np.int32)
    a, b = score(params, rows), score(params, Rows(other, rows.labels, rows.lengths))
    np.testing.assert_array_equal(a.nll, b.nll)
