# SPDX-License-Identifier: Apache-2.0
"""Log-probabilities of given tokens and of the tail, and the likeliest tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ops_oracle import logsumexp

from unilogit_jax.ops import label_log_odds, top_tokens
from unilogit_jax.types import Head

pytestmark = pytest.mark.usefixtures("strict_dtypes")
N, D, V = 24, 8, 53
EXTRAS = ("hit", "logit_mean", "logprob_moments")


@pytest.fixture(autouse=True)
def small_cuts(monkeypatch):
    """Chunks and blocks that divide neither tokens nor columns."""
    monkeypatch.setattr("unilogit_jax.ops.blocks.CHUNK", {True: 10, False: 10})
    monkeypatch.setattr("unilogit_jax.ops.blocks.BLOCK", 16)


@pytest.fixture
def made(rng):
    hidden = jnp.asarray(rng.normal(size=(N, D)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(V, D)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, V, N), jnp.int32)
    picks = jnp.asarray([rng.permutation(V)[:3] for _ in range(N)], jnp.int32)
    return hidden, kernel, labels, jnp.where(picks == labels[:, None], (picks + 1) % V, picks)


def test_values_and_gradients_equal_float64(made):
    hidden, kernel, labels, picks = made
    a, b = (jnp.asarray(np.random.default_rng(1).normal(size=s), jnp.float32) for s in ((N, 3), N))

    def total(hidden, kernel):
        head = Head(kernel=kernel, softcap=4.0)
        stats = label_log_odds(hidden, head, labels, jnp.ones(N), picks=picks)
        return jnp.sum(a * stats.pick_logprobs) + jnp.sum(b * stats.tail_logprob), stats

    (_, stats), grads = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(hidden, kernel)
    h, w = np.asarray(hidden, np.float64), np.asarray(kernel, np.float64)
    z = 4 * np.tanh(h @ w.T / 4)
    y, ids, rows = np.asarray(labels), np.asarray(picks), np.arange(N)
    logp = z - logsumexp(z)
    rest = z.copy()
    rest[rows, y] = -np.inf
    rest[rows[:, None], ids] = -np.inf
    tail = logsumexp(rest)
    np.testing.assert_allclose(stats.pick_logprobs, logp[rows[:, None], ids], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(stats.tail_logprob, (tail - logsumexp(z))[:, 0], rtol=1e-5)
    dz = -np.exp(logp) * (np.asarray(a).sum(1) + np.asarray(b))[:, None]
    dz += np.asarray(b)[:, None] * np.exp(rest - tail)
    dz[rows[:, None], ids] += np.asarray(a)
    dz *= 1 - (z / 4) ** 2
    for got, wanted in zip(grads, (dz @ w, dz.T @ h), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


def test_the_other_statistics_do_not_depend_on_picks(made):
    hidden, kernel, labels, picks = made
    labels = labels.at[:4].set(jnp.argmax(hidden[:4] @ kernel.T, axis=1).astype(jnp.int32))
    picks = picks.at[:].set(jnp.where(picks == labels[:, None], -1, picks))
    args = (hidden, kernel, labels, jnp.ones(N).at[-1].set(0.0))
    plain = label_log_odds(*args, extras=EXTRAS)
    picked = label_log_odds(*args, picks=picks, extras=EXTRAS)
    assert plain.hit[:4].all() and not plain.hit[4:].all()
    for name in ("log_odds", "label_logit", "logsumexp", "top_other", *EXTRAS[:2]):
        a, b = getattr(plain, name), getattr(picked, name)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=name)
    for name in ("logprob_mean", "logprob_var"):
        a, b = getattr(plain, name), getattr(picked, name)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=name)


def test_of_equal_logits_a_pick_of_lower_index_is_the_likeliest():
    hidden, kernel = jnp.ones((3, 1)), jnp.asarray([[1.0], [2.0], [2.0], [0.0]])
    labels, picks = jnp.array([2, 1, 2]), jnp.array([[1], [2], [3]])
    stats = label_log_odds(hidden, kernel, labels, jnp.ones(3), picks=picks, extras=("hit",))
    assert stats.hit.tolist() == [False, True, False]


def test_picks_that_are_no_token_or_there_already_have_no_probability(made):
    hidden, kernel, labels, _ = made
    first = (labels + 1) % V
    picks = jnp.stack([first, labels, first, jnp.full(N, -1), jnp.full(N, V)], axis=1)
    stats = label_log_odds(hidden, kernel, labels, jnp.ones(N), picks=picks)
    alone = label_log_odds(hidden, kernel, labels, jnp.ones(N), picks=first[:, None])
    assert (stats.pick_logprobs[:, 1:] == -jnp.inf).all()
    np.testing.assert_allclose(stats.pick_logprobs[:, :1], alone.pick_logprobs, rtol=1e-6)
    np.testing.assert_allclose(stats.tail_logprob, alone.tail_logprob, rtol=1e-6)
    np.testing.assert_allclose(stats.log_odds, alone.log_odds, rtol=1e-5, atol=1e-6)


def test_the_tail_of_memorised_tokens_is_no_difference():
    """A label and a pick hold all but 1e-12 of the mass: 1 - p_y - p_k has no digit."""
    logits = jnp.asarray([[20.0, 16.0, -10.0, -11.0, -12.0]])
    stats = label_log_odds(
        jnp.ones((1, 1)), logits.T, jnp.array([0]), jnp.ones(1), picks=jnp.array([[1]])
    )
    z = np.asarray(logits, np.float64)
    wanted = (logsumexp(z[:, 2:]) - logsumexp(z))[0, 0]
    assert float(stats.tail_logprob[0]) == pytest.approx(wanted, rel=1e-6)


def test_gradients_are_finite_where_picks_leave_no_tail():
    kernel = jnp.asarray([[1.0], [2.0], [0.5]])

    def total(kernel):
        args = (jnp.ones((2, 1)), kernel, jnp.array([0, 1]), jnp.array([1.0, 0.0]))
        return jnp.sum(label_log_odds(*args, picks=jnp.array([[1, 2], [0, 2]])).log_odds)

    value, grad = jax.value_and_grad(total)(kernel)
    q = np.exp([2.0, 0.5]) / np.exp([2.0, 0.5]).sum()
    assert float(value) == pytest.approx(1.0 - np.log(np.exp([2.0, 0.5]).sum()), rel=1e-6)
    np.testing.assert_allclose(grad[:, 0], [1.0, *-q], rtol=1e-6)


def test_top_tokens_are_those_of_the_whole_row(made):
    hidden, kernel, labels, _ = made
    weights = jnp.ones(N).at[3].set(0.0)
    got = top_tokens(hidden, Head(kernel=kernel, valid_vocab=50), labels % 50, weights, k=20)
    z = np.asarray(hidden, np.float64) @ np.asarray(kernel, np.float64)[:50].T
    z[np.arange(N), np.asarray(labels) % 50] = -np.inf
    wanted = np.argsort(-z, axis=1, kind="stable")[:, :20]
    wanted[3] = 0
    np.testing.assert_array_equal(got, wanted)


def test_top_tokens_of_a_small_vocabulary_and_of_equal_logits():
    got = top_tokens(jnp.ones((1, 1)), jnp.ones((4, 1)), jnp.array([1]), jnp.ones(1), k=5)
    assert got.tolist() == [[0, 2, 3, -1, -1]]
    with pytest.raises(ValueError, match="k=0: at least one token"):
        top_tokens(jnp.ones((1, 1)), jnp.ones((4, 1)), jnp.array([1]), jnp.ones(1), k=0)
