# SPDX-License-Identifier: Apache-2.0
"""Unilogit of whole answers and of given log-odds, against doubles down to tiny probabilities."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax.losses import (
    unilogit,
    unilogit_from_log_odds,
    unilogit_sequence_from_log_odds,
)


def log1m_exp(x):
    """log(1 - exp(x)) in doubles, for x < 0."""
    return np.log(-np.expm1(x)) if x > -0.7 else np.log1p(-np.exp(x))


def exact(log_p, n, size):
    """Value, and slope with respect to log P."""
    log_u = -n * math.log(size)
    others = log1m_exp(log_p) - log1m_exp(log_u)
    value = np.exp(log_p) * (log_p - log_u) - np.expm1(log_p) * others
    return value / n, np.exp(log_p) * (log_p - log_u - others) / n


def answer(m, size, n_segments=2):
    m = jnp.asarray(m, jnp.float32)
    segments = jnp.ones(m.shape, jnp.int32)

    def loss(m):
        return unilogit_sequence_from_log_odds(
            m, segments, segments, num_segments=n_segments, vocab_size=size
        )[1]

    value, slopes = jax.jit(jax.value_and_grad(loss))(m)
    return float(value), np.asarray(slopes, np.float64)


@pytest.mark.parametrize("size", [50, 128_256])
@pytest.mark.parametrize("n", [1, 3, 40])
@pytest.mark.parametrize("log_p", [-1e-7, -1e-4, -0.1, -0.7, -3.0, -20.0, math.log(1e-30)])
def test_value_and_slopes_are_exact_from_certain_to_hopeless(n, size, log_p):
    token = log_p / n
    m = np.full(n, token - log1m_exp(token))
    m = m.astype(np.float32).astype(np.float64)
    nll = np.log1p(np.exp(-m))
    wanted, slope = exact(-nll.sum(), n, size)
    value, slopes = answer(m, size)
    # The exponential multiplies the rounding of log P by its size.
    close = 1e-5 + 1e-7 * abs(log_p) * 10
    assert value == pytest.approx(wanted, rel=close, abs=1e-7 / n)
    by_hand = slope / (1 + np.exp(m))
    floor = 1e-7 * math.exp(log_p)
    np.testing.assert_allclose(slopes, by_hand, rtol=close, atol=floor * abs(by_hand).max())


def test_a_certain_answer_costs_log_v_and_is_not_pushed_by_nan():
    value, slopes = answer([200.0, 300.0], 64)
    assert value == pytest.approx(math.log(64), rel=1e-6) and (slopes == 0).all()


def test_one_token_is_the_loss_of_tokens():
    for m in (-9.0, -3.0, 0.0, 6.0, 14.0):
        value, slopes = answer([m], 50)
        one = jax.value_and_grad(lambda m: unilogit_from_log_odds(m, vocab_size=50))(jnp.float32(m))
        assert value == pytest.approx(float(one[0]), rel=1e-5, abs=1e-7)
        assert slopes[0] == pytest.approx(float(one[1]), rel=1e-5, abs=1e-9)


def test_packed_answers_stay_apart_and_padding_is_inert():
    m = jnp.array([1.0, 2.0, -1.0, np.nan, 3.0])
    segments, mask = jnp.array([1, 1, 2, 2, 0]), jnp.array([1, 1, 1, 0, 1])
    found = unilogit_sequence_from_log_odds(m, mask, segments, num_segments=4, vocab_size=9)
    wanted = [0.0, answer([1.0, 2.0], 9)[0], answer([-1.0], 9)[0], 0.0]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_a_vocabulary_of_one_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        answer([0.0], 1)


@pytest.mark.parametrize("direction", ["reverse", "forward"])
def test_given_log_odds_keep_their_digits_where_tau_is_near_one(direction):
    m, given = np.meshgrid([-12.0, -1.0, 3.0, 20.0, 39.0], [-11.0, 0.0, 5.0, 24.0, 30.0])
    m, given = m.ravel(), given.ravel()
    p, not_p, tau, not_tau = (1 / (1 + np.exp(x)) for x in (-m, m, -given, given))
    if direction == "reverse":
        wanted = p * not_p * (m - given)
    else:
        wanted = np.where(m > 0, not_tau - not_p, p - tau)
    one, other = jnp.asarray(m, jnp.float32), jnp.asarray(given, jnp.float32)

    def loss(m):
        values = unilogit_from_log_odds(m, vocab_size=7, direction=direction, logit_tau=other)
        return jnp.sum(values), values

    (_, values), slopes = jax.value_and_grad(loss, has_aux=True)(one)
    np.testing.assert_allclose(slopes, wanted, rtol=2e-6, atol=1e-20)
    few = (abs(m) < 10) & (abs(given) < 12)
    a, b = (np.stack([x, 1 - x])[:, few] for x in (p, tau))
    a, b = (a, b) if direction == "reverse" else (b, a)
    np.testing.assert_allclose(values[few], (a * np.log(a / b)).sum(0), rtol=1e-5, atol=1e-6)


def test_from_logits_they_are_the_same_as_tau():
    z = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6)), jnp.float32)
    labels, tau = jnp.array([0, 5, -100, 2]), jnp.array([0.1, 0.5, 0.5, 0.9])
    given = jnp.log(tau / (1 - tau)).at[2].set(jnp.nan)
    one = unilogit(z, labels, tau=tau)
    np.testing.assert_allclose(unilogit(z, labels, logit_tau=given), one, rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="give one of them"):
        unilogit(z, labels, tau=tau, logit_tau=given)
