# SPDX-License-Identifier: Apache-2.0
"""Cross entropy, gradient ascent and gradient difference against NumPy in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from losses_oracle import log_softmax, logits_with_log_odds, true_log_odds

from unilogit_jax.losses import (
    cross_entropy,
    cross_entropy_from_log_odds,
    grad_ascent,
    grad_ascent_from_log_odds,
    grad_diff,
    grad_diff_from_log_odds,
)

pytestmark = pytest.mark.usefixtures("strict_dtypes")


def test_cross_entropy_and_its_gradient_keep_their_digits_for_memorised_tokens(rng):
    z, labels = logits_with_log_odds(rng, np.array([-30, -5, 0, 3, 10, 16, 25, 40.0]), 101)
    y, rows = jnp.asarray(labels), np.arange(8)

    def total(z):
        values = cross_entropy(z, y)
        return jnp.sum(values), (values, grad_ascent(z, y))

    run = jax.jit(jax.value_and_grad(total, has_aux=True))
    (_, (values, ascent)), grad = run(jnp.asarray(z))
    m = true_log_odds(z.astype(np.float64), labels)
    np.testing.assert_allclose(values, np.log1p(np.exp(-m)), rtol=1e-5)
    np.testing.assert_allclose(np.asarray(grad)[rows, labels], -1 / (1 + np.exp(m)), rtol=1e-5)
    # p_j at the alternatives, written without the label's share cancelling.
    others = np.exp(log_softmax(z.astype(np.float64)))
    others[rows, labels] = np.asarray(grad)[rows, labels]
    np.testing.assert_allclose(grad, others, rtol=2e-5, atol=1e-37)
    np.testing.assert_array_equal(ascent, -values)


def test_gradient_ascent_pushes_every_label_down(rng):
    m = jnp.linspace(-30, 30, 13)
    slope = jax.grad(lambda m: jnp.sum(grad_ascent_from_log_odds(m)))(m)
    np.testing.assert_allclose(slope, 1 / (1 + np.exp(np.asarray(m, np.float64))), rtol=1e-5)


def test_cross_entropy_at_the_infinities():
    m = jnp.array([jnp.inf, -jnp.inf])
    value, slope = jax.vmap(jax.value_and_grad(cross_entropy_from_log_odds))(m)
    assert value.tolist() == [0.0, float("inf")]
    assert slope.tolist() == [0.0, -1.0]


def grad_diff_oracle(zf, yf, zr, yr, weight):
    def nll(z, y):
        kept = y >= 0
        return -np.mean(log_softmax(z)[kept, y[kept]])

    return -nll(zf, yf) + weight * nll(zr, yr)


def test_grad_diff_equals_the_difference_of_two_token_means(rng):
    zf, zr = rng.normal(size=(3, 6)), rng.normal(size=(5, 6))
    yf, yr = np.array([1, -100, 2]), np.array([0, 5, 3, 3, -100])
    arrays = [jnp.asarray(a, jnp.float32) for a in (zf, zr)]
    labels = [jnp.asarray(a, jnp.int32) for a in (yf, yr)]
    ours = jax.jit(partial(grad_diff, retain_weight=0.7))(
        arrays[0], labels[0], arrays[1], labels[1]
    )
    expected = grad_diff_oracle(zf, yf, zr, yr, 0.7)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    # The same from the log-odds of one batch that holds both sets.
    z, y = np.concatenate([zf, zr]), np.concatenate([yf, yr])
    m = np.where(y >= 0, true_log_odds(z, np.maximum(y, 0)), np.nan)
    forget = jnp.asarray((np.arange(8) < 3) & (y >= 0))
    retain = jnp.asarray((np.arange(8) >= 3) & (y >= 0))
    packed = jax.jit(partial(grad_diff_from_log_odds, retain_weight=0.7))(
        jnp.asarray(m, jnp.float32), forget, retain
    )
    np.testing.assert_allclose(packed, expected, rtol=1e-5)


def test_grad_diff_masks_leave_tokens_out_and_an_empty_set_gives_zero(rng):
    z = jnp.asarray(rng.normal(size=(4, 6)), jnp.float32)
    y = jnp.array([0, 1, 2, 3])
    first = jnp.array([True, False, False, False])
    dirty = jnp.where(first[:, None], z, jnp.nan)

    @jax.jit
    @jax.value_and_grad
    def run(z, forget):
        return grad_diff(z, y, z, y, forget_mask=forget, retain_mask=jnp.zeros(4))

    loss, grad = run(dirty, first)
    np.testing.assert_allclose(loss, log_softmax(np.asarray(z, np.float64))[0, 0], rtol=1e-5)
    assert np.any(grad[0]) and not np.any(grad[1:])
    loss, grad = run(dirty, jnp.zeros(4, bool))
    assert loss == 0 and not np.any(grad)


def test_grad_diff_lowers_forget_and_raises_retain():
    m = jnp.array([0.5, 0.5, jnp.nan])
    forget, retain = jnp.array([1, 0, 0]), jnp.array([0, 1, 0])
    slope = jax.jit(jax.grad(lambda m: grad_diff_from_log_odds(m, forget, retain)))(m)
    assert slope[0] > 0 > slope[1] and slope[2] == 0
