# SPDX-License-Identifier: Apache-2.0
"""UnDIAL: formula, gradient, fixed point, masks."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from losses_oracle import log_softmax

from unilogit_jax.losses import undial

pytestmark = pytest.mark.usefixtures("strict_dtypes")


def value_and_grads(z, ref, labels, mask=None, **options):
    def total(z, ref):
        values = undial(z, ref, jnp.asarray(labels, jnp.int32), mask, **options)
        return jnp.sum(values), values

    arrays = (jnp.asarray(z, jnp.float32), jnp.asarray(ref, jnp.float32))
    run = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
    (_, values), grads = run(*arrays)
    return values, *grads


@pytest.mark.parametrize("beta", [0.0, 10.0])
def test_undial_equals_float64_numpy_written_from_the_paper(rng, beta):
    z, ref = rng.normal(size=(2, 4, 33)) * 3
    labels = rng.integers(0, 33, size=4)
    rows = np.arange(4)
    ref[rows, labels] += 8
    lowered = ref.copy()
    lowered[rows, labels] -= beta
    teacher = np.exp(log_softmax(lowered))
    values, grad, of_ref = value_and_grads(z, ref, labels, beta=beta)
    np.testing.assert_allclose(values, -np.sum(teacher * log_softmax(z), -1), rtol=1e-5)
    np.testing.assert_allclose(grad, np.exp(log_softmax(z)) - teacher, rtol=1e-4, atol=1e-6)
    assert not np.any(of_ref)


def test_label_mass_of_the_teacher_is_the_closed_form(rng):
    ref = rng.normal(size=(1, 12))
    p0, beta = np.exp(log_softmax(ref))[0, 5], 2.0
    _, grad, _ = value_and_grads(np.zeros((1, 12)), ref, [5], beta=beta)
    mass = p0 * np.exp(-beta) / (1 - p0 + p0 * np.exp(-beta))
    np.testing.assert_allclose(1 / 12 - grad[0, 5], mass, rtol=1e-4)


def test_undial_without_lowering_has_no_gradient_at_the_reference(rng):
    z = rng.normal(size=(3, 50)) * 4
    _, grad, _ = value_and_grads(z, z, [0, 1, 2], beta=0.0)
    np.testing.assert_allclose(grad, 0.0, atol=1e-6)
    _, grad, _ = value_and_grads(z, z, [0, 1, 2], beta=10.0)
    assert np.all(np.asarray(grad)[np.arange(3), np.arange(3)] > 0)


def test_undial_ignores_masked_positions_and_the_label_minus_100_even_with_nan(rng):
    z, ref = rng.normal(size=(2, 4, 9))
    labels = np.array([1, -100, 3, 9])
    z[1:], ref[1:] = np.nan, np.nan
    values, grad, _ = value_and_grads(z, ref, labels, jnp.array([1, 1, 0, 1]))
    assert np.all(np.asarray(values)[1:] == 0) and not np.any(np.asarray(grad)[1:])
    assert values[0] > 0 and np.any(np.asarray(grad)[0])


def test_undial_leaves_padding_columns_of_the_head_out(rng):
    z, ref = rng.normal(size=(2, 2, 9))
    wide = [np.concatenate([a, np.full((2, 3), -np.inf)], -1) for a in (z, ref)]
    values, grad, _ = value_and_grads(z, ref, [0, 4])
    wide_values, wide_grad, _ = value_and_grads(*wide, [0, 4])
    np.testing.assert_allclose(wide_values, values, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(wide_grad)[:, :9], grad, rtol=1e-5, atol=1e-7)
    assert not np.any(np.asarray(wide_grad)[:, 9:])


def test_a_mistyped_compat_is_refused_and_not_taken_for_none():
    z = jnp.zeros((1, 3))
    with pytest.raises(ValueError, match="compat='open-unlearning' is unknown"):
        inspect.unwrap(undial)(z, z, jnp.array([0]), compat="open-unlearning")
