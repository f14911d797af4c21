# SPDX-License-Identifier: Apache-2.0
"""The label's log-odds: accuracy, derivative, ignored and infinite positions, sharding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from unilogit_jax.ops import label_columns, log_odds

pytestmark = pytest.mark.usefixtures("strict_dtypes")


def oracle(z, labels):
    """m and its gradient e_y - q per row, in float64, from the alternatives alone."""
    z = np.asarray(z, np.float64)
    m, grad = np.zeros(len(z)), np.zeros_like(z)
    for i, y in enumerate(labels):
        others = np.delete(z[i], y)
        top = others.max()
        total = top + np.log(np.exp(others - top).sum())
        m[i] = z[i, y] - total
        grad[i] = -np.exp(z[i] - total)
        grad[i, y] = 1.0
    return m, grad


def value_and_grad(z, labels):
    @jax.jit
    def run(z):
        values, vjp = jax.vjp(lambda z: log_odds(z, jnp.asarray(labels)), z)
        return values, vjp(jnp.ones_like(values))[0]

    return tuple(np.asarray(x) for x in run(jnp.asarray(z)))


@pytest.mark.parametrize("vocab_size", [2, 7, 5003])
def test_log_odds_and_gradient_equal_float64_for_labels_of_any_certainty(rng, vocab_size):
    z = rng.normal(size=(7, vocab_size)).astype(np.float32)
    labels = rng.integers(0, vocab_size, size=7).astype(np.int32)
    z[np.arange(7), labels] = [-40, -10, 0, 10, 25, 60, 200]
    m, grad = oracle(z, labels)
    ours, our_grad = value_and_grad(z, labels)
    np.testing.assert_allclose(ours, m, rtol=1e-6, atol=2e-6)
    np.testing.assert_allclose(our_grad, grad, rtol=1e-5)


def test_leading_axes_and_integer_kinds_do_not_matter(rng):
    z = jnp.asarray(rng.normal(size=(2, 3, 300)), jnp.float32)
    labels = rng.integers(0, 120, size=(2, 3))
    run = jax.jit(log_odds)
    flat = run(z.reshape(6, 300), jnp.asarray(labels.reshape(6), jnp.int32))
    for kind in (jnp.int8, jnp.int32):
        np.testing.assert_array_equal(run(z, jnp.asarray(labels, kind)).ravel(), flat)
    np.testing.assert_array_equal(run(z[0, 0], jnp.asarray(labels[0, 0])), flat[0])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_logits_are_cast_before_anything_else(rng, dtype):
    z = jnp.asarray(rng.normal(size=(5, 50)) * 5, dtype)
    labels = jnp.asarray(rng.integers(0, 50, size=5))
    assert log_odds(z, labels).dtype == jnp.float32
    np.testing.assert_array_equal(log_odds(z, labels), log_odds(z.astype(jnp.float32), labels))


@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("label", [-100, -1, 5])
def test_labels_outside_the_vocabulary_give_zero_without_gradient(junk, label):
    z = np.full((2, 5), junk, np.float32)
    z[0] = np.arange(5)
    values, grad = value_and_grad(z, np.array([2, label], np.int32))
    assert values[0] != 0 and values[1] == 0
    assert np.any(grad[0]) and not np.any(grad[1])


def test_infinite_log_odds_have_finite_gradients():
    inf = np.inf
    z = np.array([[-inf, 0, 1], [2, -inf, -inf], [2, 1, -inf]], np.float32)
    values, grad = value_and_grad(z, np.zeros(3, np.int32))
    assert values.tolist() == [-inf, inf, 1.0]
    np.testing.assert_allclose(
        grad, [[1, -1 / (1 + np.e), -np.e / (1 + np.e)], [1, 0, 0], [1, -1, 0]], rtol=1e-5
    )


def test_nan_logits_of_a_counted_position_are_not_hidden():
    z = np.array([[0.0, np.nan, 1.0]], np.float32)
    values, grad = value_and_grad(z, np.zeros(1, np.int32))
    assert np.isnan(values[0]) and np.any(np.isnan(grad))


def test_forward_mode_second_derivatives_and_vmap_agree_with_float64(rng):
    z = rng.normal(size=(6,)).astype(np.float32)
    _, grad = oracle(z[None], [2])
    jacobian = jax.jit(jax.jacfwd(lambda z: log_odds(z, jnp.int32(2))))(z)
    np.testing.assert_allclose(jacobian, grad[0], rtol=1e-5)
    hessian = jax.jit(jax.hessian(lambda z: log_odds(z, jnp.int32(2))))(z)
    q = -grad[0] * (np.arange(6) != 2)
    np.testing.assert_allclose(hessian, np.outer(q, q) - np.diag(q), rtol=1e-4, atol=1e-6)
    rows = jnp.stack([jnp.asarray(z), jnp.asarray(-z)])
    labels = jnp.array([2, 4])
    mapped, plain = jax.jit(jax.vmap(log_odds))(rows, labels), jax.jit(log_odds)(rows, labels)
    np.testing.assert_allclose(mapped, plain, rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((8, 1), AxisType.Auto),
        ((1, 8), AxisType.Auto),
        ((2, 4), AxisType.Auto),
        ((2, 4), AxisType.Explicit),
    ],
)
def test_sharded_batch_and_vocabulary_give_the_same_numbers(rng, shape, kind):
    z = rng.normal(size=(8, 64)).astype(np.float32)
    labels = rng.integers(0, 64, size=8).astype(np.int32)
    m, grad = oracle(z, labels)
    mesh = jax.make_mesh(shape, ("data", "tensor"), axis_types=(kind,) * 2)
    with jax.set_mesh(mesh):
        placed = jax.device_put(z, NamedSharding(mesh, P("data", "tensor")))
        rows = jax.device_put(labels, NamedSharding(mesh, P("data")))

        @jax.jit
        def run(z, labels):
            return log_odds(z, labels), jax.grad(lambda z: jnp.sum(log_odds(z, labels)))(z)

        values, grads = run(placed, rows)
    np.testing.assert_allclose(values, m, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(grads, grad, rtol=1e-5)


def test_label_columns_mark_the_label_and_nothing_for_ignored_rows():
    expected = np.zeros((2, 3), bool)
    expected[0, 2] = True
    np.testing.assert_array_equal(label_columns(jnp.array([2, -100]), 3), expected)
    np.testing.assert_array_equal(label_columns(jnp.array(1), 2), [False, True])


def test_one_column_is_refused():
    with pytest.raises(ValueError, match=r"at least 2 logit columns, got logits of shape \(4, 1\)"):
        log_odds(jnp.zeros((4, 1)), jnp.zeros(4, jnp.int32))
