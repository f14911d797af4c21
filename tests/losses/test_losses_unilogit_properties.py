# SPDX-License-Identifier: Apache-2.0
"""What must hold for Unilogit whatever the numbers: detaching, identities, symmetries, masks."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from losses_oracle import logits_with_log_odds, true_log_odds

from unilogit_jax.losses import cross_entropy, unilogit, unilogit_from_log_odds

T, V = 4, 7
quick = settings(max_examples=40, deadline=None, derandomize=True, database=None)
finite_logits = arrays(
    np.float32, (T, V), elements=st.floats(-20, 20, width=32, allow_subnormal=False)
)
any_labels = arrays(np.int32, (T,), elements=st.integers(0, V - 1))


@jax.jit
def both(z, labels, mask):
    """Values and gradients of both directions, [2 T] and [2 T V]."""

    def one(direction):
        def total(z):
            values = unilogit(z, labels, mask, direction=direction)
            return jnp.sum(values), values

        (_, values), grad = jax.value_and_grad(total, has_aux=True)(z)
        return values, grad

    return tuple(jnp.stack(pair) for pair in zip(one("reverse"), one("forward"), strict=True))


def dense(z, y, direction, detach):
    """The definition in JAX; `detach` names which part of the target is held fixed."""
    at_label = jnp.arange(z.shape[-1]) == y
    stop = jax.lax.stop_gradient
    others = jax.nn.logsumexp(jnp.where(at_label, -jnp.inf, z))
    label = others - jnp.log(z.shape[-1] - 1.0)
    label = stop(label) if detach in ("label", "all") else label
    rest = stop(z) if detach in ("rest", "all") else z
    log_t = jax.nn.log_softmax(jnp.where(at_label, label, rest))
    log_p = jax.nn.log_softmax(z)
    if direction == "reverse":
        return jnp.sum(jnp.exp(log_p) * (log_p - log_t))
    return jnp.sum(jnp.exp(log_t) * (log_t - log_p))


def test_stop_gradient_on_the_whole_target_makes_no_difference_but_on_a_part_it_does(rng):
    z32, labels = logits_with_log_odds(rng, np.array([1.0, 0.0, 0.0, 0.0]), V)
    _, ours = both(z32, labels, np.ones(T, bool))

    @jax.jit
    def dense_grads(z):
        parts, y = ("none", "all", "label", "rest"), int(labels[0])
        grad = jax.grad(dense)
        return [{part: grad(z, y, d, part) for part in parts} for d in ("reverse", "forward")]

    with jax.enable_x64(True):
        grads = dense_grads(jnp.asarray(z32[0], jnp.float64))
    for mine, grad in zip(ours, grads, strict=True):
        np.testing.assert_allclose(grad["none"], grad["all"], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(mine[0], grad["all"], rtol=1e-5, atol=1e-6)
        for part in ("label", "rest"):
            assert np.abs(grad[part] - grad["all"]).max() > 0.05 * np.abs(grad["all"]).max()


def test_gradient_is_that_of_a_weighted_cross_entropy(rng):
    z, labels = logits_with_log_odds(rng, np.array([-9.0, -4.0, -1.0, 0.5, 3.0, 12.0]), 300)
    m = true_log_odds(z.astype(np.float64), labels)
    weight = jnp.asarray((m + np.log(299)) / (1 + np.exp(-m)), jnp.float32)
    y = jnp.asarray(labels)
    ours = jax.jit(jax.grad(lambda z: jnp.sum(unilogit(z, y))))(z)
    theirs = jax.jit(jax.grad(lambda z: -jnp.sum(weight * cross_entropy(z, y))))(z)
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-9)


def test_second_derivative_is_the_derivative_of_the_slope():
    m, v, h = np.array([-6.0, -1.0, 0.0, 2.0]), 40, 1e-5

    def slope(m):
        return np.exp(-np.logaddexp(0, m) - np.logaddexp(0, -m)) * (m + np.log(v - 1))

    second = jax.grad(jax.grad(lambda m: unilogit_from_log_odds(m, vocab_size=v)))
    expected = (slope(m + h) - slope(m - h)) / (2 * h)
    np.testing.assert_allclose(
        jax.jit(jax.vmap(second))(jnp.asarray(m, jnp.float32)), expected, rtol=1e-4, atol=1e-6
    )


@quick
@given(z=finite_logits, labels=any_labels, shift=st.floats(-50, 50, width=32))
def test_a_shift_of_the_logits_changes_nothing(z, labels, shift):
    mask = np.ones(T, bool)
    plain, moved = both(z, labels, mask), both(z + np.float32(shift), labels, mask)
    for a, b in zip(plain, moved, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@quick
@given(
    z=finite_logits,
    labels=any_labels,
    mask=arrays(bool, (T,)),
    junk=st.sampled_from([np.nan, np.inf, -np.inf, 1e30]),
)
def test_masked_tokens_are_inert_whatever_they_hold(z, labels, mask, junk):
    values, grad = both(z, labels, np.ones(T, bool))
    values, grad = np.where(mask, values, 0), np.where(mask[:, None], grad, 0)
    dirty = np.where(mask[:, None], z, np.float32(junk))
    for label, kept in ((labels, mask), (np.where(mask, labels, -100), np.ones(T, bool))):
        dirty_values, dirty_grad = both(dirty, label.astype(np.int32), kept)
        np.testing.assert_array_equal(dirty_values, values)
        np.testing.assert_array_equal(dirty_grad, grad)


@quick
@given(
    z=finite_logits,
    labels=any_labels,
    rows=st.permutations(range(T)),
    columns=st.permutations(range(V)),
)
def test_order_of_batch_and_vocabulary_does_not_matter(z, labels, rows, columns):
    mask = np.ones(T, bool)
    values, grad = both(z, labels, mask)
    rows, columns = np.array(rows), np.array(columns)
    renamed = np.argsort(columns)[labels].astype(np.int32)
    moved_values, moved_grad = both(z[rows][:, columns], renamed[rows], mask)
    np.testing.assert_allclose(moved_values, values[:, rows], rtol=2e-5, atol=2e-6)
    expected = grad[:, rows][:, :, columns]
    np.testing.assert_allclose(moved_grad, expected, rtol=2e-5, atol=2e-6)


@quick
@given(z=finite_logits, labels=any_labels)
def test_values_lie_between_zero_and_log_v_and_gradients_sum_to_zero(z, labels):
    values, grad = both(z, labels, np.ones(T, bool))
    assert np.all(values > -1e-6) and np.all(values[0] < np.log(V) + 1e-5)
    np.testing.assert_allclose(np.sum(grad, -1), 0, atol=1e-5)
