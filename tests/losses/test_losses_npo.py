# SPDX-License-Identifier: Apache-2.0
"""Negative preference optimisation: formula, limits, packed answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax.losses import npo, npo_from_log_odds

pytestmark = pytest.mark.usefixtures("strict_dtypes")


def npo_oracle(logprobs, ref, beta):
    return (2 / beta) * np.log1p(np.exp(beta * (logprobs - ref)))  # -log sigmoid(-x)


def test_npo_equals_float64_numpy_written_from_the_paper(rng):
    logprobs, ref = (rng.normal(size=(2, 6)) * 30 - 40).astype(np.float32).astype(np.float64)
    for beta in (0.05, 0.1, 1.0):
        ours = npo(jnp.asarray(logprobs, jnp.float32), jnp.asarray(ref, jnp.float32), beta=beta)
        np.testing.assert_allclose(ours, npo_oracle(logprobs, ref, beta), rtol=1e-5)


def test_npo_gradient_is_gradient_ascent_times_a_weight_that_fades(rng):
    gain = np.array([-100.0, -20.0, -1.0, 0.0, 5.0, 100.0])
    ref = jnp.full(6, -30.0)
    weight, of_ref = jax.grad(lambda a, b: jnp.sum(npo(a, b, beta=0.2)), argnums=(0, 1))(
        ref + jnp.asarray(gain, jnp.float32), ref
    )
    np.testing.assert_allclose(weight, 2 / (1 + np.exp(-0.2 * gain)), rtol=1e-5)
    assert weight[3] == 1.0  # at the reference: plain gradient ascent
    assert not np.any(of_ref)


def test_npo_tends_to_gradient_ascent_on_sequences_as_beta_goes_to_zero():
    logprobs, ref, beta = np.array([-5.0, -9.0]), np.array([-6.0, -4.0]), 1e-3
    ours = npo(jnp.asarray(logprobs, jnp.float32), jnp.asarray(ref, jnp.float32), beta=beta)
    limit = np.asarray(ours, np.float64) - 2 * np.log(2) / beta
    np.testing.assert_allclose(limit, logprobs - ref, rtol=0.01)


def packed(rng):
    m, ref = rng.normal(size=(2, 2, 6)) * 3
    segments = np.array([[1, 1, 1, 2, 2, 0], [3, 3, 3, 3, 4, 0]])
    mask = np.array([[0, 1, 1, 0, 1, 1], [1, 1, 0, 1, 0, 1]])  # 4 has no token, 0 is padding
    return m, ref, segments, mask


def test_packed_npo_sums_tokens_by_answer_and_leaves_padding_zero(rng):
    m, ref, segments, mask = packed(rng)
    expected = np.zeros(5)
    for s in (1, 2, 3):
        kept = (segments == s) & (mask > 0)
        sums = [-np.log1p(np.exp(-x[kept])).sum() for x in (m, ref)]
        expected[s] = npo_oracle(*sums, 0.3)
    dirty = [jnp.asarray(np.where(mask, x, np.nan), jnp.float32) for x in (m, ref)]
    run = jax.jit(npo_from_log_odds, static_argnames=("num_segments", "beta"))
    ours = run(*dirty, jnp.asarray(mask), jnp.asarray(segments), num_segments=5, beta=0.3)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_packed_npo_gradient_reaches_supervised_tokens_only(rng):
    m, ref, segments, mask = packed(rng)
    dirty = [jnp.asarray(np.where(mask, x, np.nan), jnp.float32) for x in (m, ref)]

    def total(m, ref):
        return jnp.sum(
            npo_from_log_odds(m, ref, jnp.asarray(mask), jnp.asarray(segments), num_segments=5)
        )

    grad, of_ref = jax.jit(jax.grad(total, argnums=(0, 1)))(*dirty)
    reached = (mask > 0) & (segments > 0)
    assert np.all(np.asarray(grad)[reached] > 0) and not np.any(np.asarray(grad)[~reached])
    assert not np.any(of_ref)


def test_a_batch_without_answers_gives_zero_and_no_gradient():
    m = jnp.full(4, jnp.nan)

    def total(m):
        values = npo_from_log_odds(m, m, jnp.zeros(4), jnp.zeros(4, jnp.int32), num_segments=3)
        return jnp.sum(values)

    value, grad = jax.jit(jax.value_and_grad(total))(m)
    assert value == 0 and not np.any(grad)


def test_npo_refuses_a_beta_that_is_not_positive():
    for beta in (0.0, -1.0):
        with pytest.raises(ValueError, match="beta > 0"):
            npo(jnp.zeros(1), jnp.zeros(1), beta=beta)
