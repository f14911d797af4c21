# SPDX-License-Identifier: Apache-2.0
"""Unilogit against its definition: values, gradients, target, tau, infinities, refusals."""

import inspect
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from losses_oracle import (
    log_softmax,
    logits_with_log_odds,
    true_log_odds,
    unilogit_dense,
    unilogit_target_logits,
)

from unilogit_jax.losses import unilogit, unilogit_from_log_odds, unilogit_target

pytestmark = pytest.mark.usefixtures("strict_dtypes")
DIRECTIONS = ("reverse", "forward")


@lru_cache
def compiled(directions, tau):
    """Values and gradients per direction as one compiled function; `tau` is a constant or None."""

    def run(z, labels, mask, tau_array):
        def total(z, direction):
            share = tau if tau_array is None else tau_array
            values = unilogit(z, labels, mask, direction=direction, tau=share)
            return jnp.sum(values), values

        result = {}
        for direction in directions:
            (_, values), grad = jax.value_and_grad(total, has_aux=True)(z, direction)
            result[direction] = (values, grad)
        return result

    return jax.jit(run)


def values_and_grads(z, labels, mask=None, tau=None, directions=DIRECTIONS):
    is_array = isinstance(tau, jax.Array)
    run = compiled(directions, None if is_array else tau)
    result = run(jnp.asarray(z), jnp.asarray(labels), mask, tau if is_array else None)
    return jax.tree.map(lambda x: np.asarray(x, np.float64), result)


def assert_equals_definition(z, labels, tau=None):
    """The accuracy promised in float32: 1e-5 of the gradient's own scale, 1e-5 L + 1e-6."""
    m = true_log_odds(z.astype(np.float64), labels)
    rows = np.arange(len(labels))
    # Each alternative carries its share q_j of the label's gradient.
    share = z.astype(np.float64).copy()
    share[rows, labels] = -np.inf
    share = np.exp(log_softmax(share))
    share[rows, labels] = 1.0
    for direction, (ours, our_grad) in values_and_grads(z, labels, tau=tau).items():
        value, grad = unilogit_dense(z, labels, direction, tau)
        np.testing.assert_array_less(np.abs(ours - value), 1e-5 * np.abs(value) + 1e-6)
        scale = np.abs(grad[rows, labels]) + 1 / (1 + np.exp(m)) / (1 + np.exp(-m))
        # 1e-37: float32 has no smaller numbers.
        error = np.abs(our_grad - grad) / (scale[:, None] * share + 1e-37)
        assert error.max() < 1e-5, (direction, error.max(), m[error.max(axis=1).argmax()])


@pytest.mark.parametrize("vocab_size", [2, 7, 1000, 5003, 128256])
def test_unilogit_equals_the_definition_from_impossible_to_memorised_labels(rng, vocab_size):
    zero = -np.log(vocab_size - 1)
    m = np.array([-30, -20, -12, zero - 1, zero, zero + 1, -5, 0, 1, 5, 9, 14, 16, 18, 25, 40.0])
    z, labels = logits_with_log_odds(rng, m, vocab_size)
    assert_equals_definition(z, labels)


def test_unilogit_equals_the_definition_for_a_vocabulary_of_256k(rng):
    z, labels = logits_with_log_odds(rng, np.array([-12.0, 3.0, 25.0]), 262_144, scale=3.0)
    assert_equals_definition(z, labels)


@pytest.mark.parametrize("tau", [1e-6, 0.9])
def test_general_tau_equals_the_definition(rng, tau):
    z, labels = logits_with_log_odds(rng, np.array([-12.0, -3.0, 0.0, 2.0, 10.0, 20.0]), 211)
    assert_equals_definition(z, labels, tau=tau)


def test_tau_per_token_equals_the_definition_and_lets_no_gradient_through(rng):
    z, labels = logits_with_log_odds(rng, np.array([-3.0, 0.0, 2.0, 10.0]), 31)
    tau = jnp.array([0.2, 0.2, 0.01, 0.7], jnp.float32)
    for direction, (values, grad) in values_and_grads(z, labels, tau=tau).items():
        for i, share in enumerate(np.asarray(tau, np.float64)):
            row = slice(i, i + 1)
            value, slope = unilogit_dense(z[row], labels[row], direction, share)
            np.testing.assert_allclose(values[row], value, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(grad[row], slope, rtol=1e-5, atol=1e-6)

    @jax.jit
    @jax.grad
    def of_tau(tau):
        y = jnp.asarray(labels)
        return sum(jnp.sum(unilogit(jnp.asarray(z), y, direction=d, tau=tau)) for d in DIRECTIONS)

    assert not np.any(of_tau(tau))


def test_tau_per_token_may_be_an_array_of_numpy(rng):
    z, labels = logits_with_log_odds(rng, np.array([-3.0, 2.0]), 11)
    m, tau = jnp.asarray(true_log_odds(z, labels), jnp.float32), np.array([0.2, 0.7], np.float32)
    # Unwrapped: the type check of the tests knows arrays of JAX alone.
    functions = [inspect.unwrap(f) for f in (unilogit, unilogit_target)]
    for tried in (tau, jnp.asarray(tau)):
        found = [f(jnp.asarray(z), jnp.asarray(labels), tau=tried) for f in functions]
        found.append(inspect.unwrap(unilogit_from_log_odds)(m, vocab_size=11, tau=tried))
        np.testing.assert_allclose(found[0], found[2], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(found[1][np.arange(2), labels], tau, rtol=1e-6)


def test_tau_of_a_masked_token_may_be_zero_or_nan(rng):
    z, labels = logits_with_log_odds(rng, np.array([1.0, 2.0, 3.0]), 11)
    mask, tau = jnp.array([1.0, 0.0, 0.0]), jnp.array([0.1, 0.0, jnp.nan])
    for values, grad in values_and_grads(z, labels, mask, tau).values():
        assert np.all(values[1:] == 0) and not np.any(grad[1:])
        assert values[0] > 0 and np.any(grad[0])


def test_forward_with_tau_zero_is_unlikelihood(rng):
    z, labels = logits_with_log_odds(rng, np.array([-8.0, -1.0, 0.0, 3.0, 20.0]), 97)
    m = true_log_odds(z.astype(np.float64), labels)
    # d/dz of -log(1 - p): p at the label, -p q_j elsewhere.
    rows = np.arange(len(labels))
    others = z.astype(np.float64)
    others[rows, labels] = -np.inf
    expected = -np.exp(log_softmax(others))
    expected[rows, labels] = 1.0
    expected *= (1 / (1 + np.exp(-m)))[:, None]
    for tau in (0.0, jnp.zeros(5)):
        values, grad = values_and_grads(z, labels, tau=tau, directions=("forward",))["forward"]
        np.testing.assert_allclose(values, np.log1p(np.exp(m)), rtol=1e-5)  # -log(1 - p)
        np.testing.assert_allclose(grad, expected, rtol=1e-5)
    edge = jnp.array([-jnp.inf])
    zero = unilogit_from_log_odds(edge, vocab_size=97, direction="forward", tau=0.0)
    assert zero.item() == 0.0


@pytest.mark.parametrize("vocab_size", [2, 5, 50, 1000, 32000])
def test_target_gives_the_label_one_over_v_and_keeps_the_other_ratios(rng, vocab_size):
    z, labels = logits_with_log_odds(rng, np.array([-5.0, 0.0, 8.0]), vocab_size)
    rows = np.arange(3)
    oracle = np.exp(log_softmax(unilogit_target_logits(z.astype(np.float64), labels)))
    np.testing.assert_allclose(vocab_size * oracle[rows, labels], 1.0, rtol=0, atol=1e-12)
    target = np.asarray(jax.jit(unilogit_target)(z, labels), np.float64)
    np.testing.assert_allclose(vocab_size * target[rows, labels], 1.0, rtol=0, atol=1e-6)
    np.testing.assert_allclose(target, oracle, rtol=1e-5)
    np.testing.assert_allclose(target.sum(-1), 1.0, rtol=1e-6)
    # Ratios: log target - log p is one constant over all alternatives.
    gap = np.log(target) - log_softmax(z.astype(np.float64))
    gap[rows, labels] = np.nan
    assert np.all(np.nanmax(gap, -1) - np.nanmin(gap, -1) < 1e-5)


def test_target_of_an_ignored_row_is_softmax_and_tau_may_differ_by_token(rng):
    z = rng.normal(size=(3, 6)).astype(np.float32)
    labels = jnp.array([1, 2, -100])
    target = jax.jit(unilogit_target)(z, labels, tau=jnp.array([0.3, 0.0, 0.5]))
    np.testing.assert_allclose(target[2], np.exp(log_softmax(z[2])), rtol=1e-5)
    np.testing.assert_allclose(target[np.arange(2), labels[:2]], [0.3, 0.0], rtol=1e-6)
    np.testing.assert_allclose(np.sum(target, -1), 1.0, rtol=1e-6)


def test_gradient_sums_to_zero_and_changes_sign_at_one_over_v(rng):
    vocab_size = 500
    zero = -np.log(vocab_size - 1)
    z, labels = logits_with_log_odds(rng, zero + np.array([-2.0, 0.0, 2.0]), vocab_size)
    for values, grad in values_and_grads(z, labels).values():
        label = grad[np.arange(3), labels]
        np.testing.assert_allclose(grad.sum(-1), 0.0, atol=1e-6 * np.abs(label).max())
        # Descent raises a label that is rarer than 1/V, lowers a commoner one.
        assert label[0] < 0 < label[2]
        assert abs(label[1]) < 1e-5 / vocab_size and abs(values[1]) < 1e-6


def test_gradient_of_a_memorised_token_is_neither_zero_nor_nan():
    m = jnp.array([16.0, 20.0, 40.0, 80.0])
    grad = jax.jit(jax.grad(lambda m: jnp.sum(unilogit_from_log_odds(m, vocab_size=32000))))(m)
    m = np.asarray(m, np.float64)
    np.testing.assert_allclose(grad, np.exp(-m) * (m + np.log(31999)), rtol=1e-5)


def test_reverse_is_finite_for_certain_and_impossible_labels():
    m = jnp.array([jnp.inf, -jnp.inf, 1e4, -1e4])
    run = jax.value_and_grad(lambda m: unilogit_from_log_odds(m, vocab_size=50))
    value, grad = jax.jit(jax.vmap(run))(m)
    low = -np.log1p(-1 / 50)
    np.testing.assert_allclose(value, [np.log(50), low, np.log(50), low], rtol=1e-6)
    assert np.all(grad == 0)


def test_minus_infinite_logits_give_finite_reverse_values_and_gradients():
    inf = np.inf
    z = np.array(
        [
            [-inf, 1.0, 2.0, 0.0],  # impossible label
            [3.0, -inf, -inf, -inf],  # certain label
            [3.0, -inf, 1.0, -inf],  # one alternative
        ],
        np.float32,
    )
    values, grad = values_and_grads(z, np.zeros(3, np.int32))["reverse"]
    assert np.all(np.isfinite(values)) and np.all(np.isfinite(grad))
    np.testing.assert_allclose(values[:2], [-np.log1p(-1 / 4), np.log(4)], rtol=1e-6)
    assert not np.any(grad[:2])
    # With two possible tokens the loss is a binary divergence of p = sigmoid(2) from 1/4.
    p = 1 / (1 + np.exp(-2.0))
    expected = p * np.log(4 * p) + (1 - p) * np.log((1 - p) * 4 / 3)
    np.testing.assert_allclose(values[2], expected, rtol=1e-5)
    np.testing.assert_allclose(grad[2, 0], p * (1 - p) * (2 + np.log(3)), rtol=1e-5)


def test_padding_columns_do_not_count_when_tau_is_given(rng):
    z, labels = logits_with_log_odds(rng, np.array([-1.0, 6.0]), 50)
    padded = np.concatenate([z, np.full((2, 14), -np.inf, np.float32)], axis=-1)
    plain, wide = values_and_grads(z, labels), values_and_grads(padded, labels, tau=1 / 50)
    for direction in DIRECTIONS:
        (value, grad), (wide_value, wide_grad) = plain[direction], wide[direction]
        np.testing.assert_allclose(wide_value, value, rtol=1e-5)
        np.testing.assert_allclose(wide_grad[:, :50], grad, rtol=1e-5, atol=1e-8)
        assert not np.any(wide_grad[:, 50:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"direction": "backward"}, "direction='backward' is unknown"),
        ({"tau": 0.0}, "use direction='forward' for tau=0"),
        ({"tau": 1.0}, "tau=1.0 is outside"),
        ({"tau": -0.1, "direction": "forward"}, "tau=-0.1 is outside"),
        ({"tau": 1.0, "direction": "forward"}, "tau=1.0 is outside"),
        ({"tau": float("nan"), "direction": "forward"}, "tau=nan is outside"),
        ({"vocab_size": 1}, "at least 2 tokens"),
    ],
)
def test_wrong_arguments_are_refused_with_a_sentence(options, message):
    # Unwrapped: the run-time type check of the tests would refuse an unknown direction first.
    function = inspect.unwrap(unilogit_from_log_odds)
    with pytest.raises(ValueError, match=message):
        function(jnp.zeros(2), **{"vocab_size": 10, **options})


def test_one_logit_column_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        unilogit(jnp.zeros((3, 1)), jnp.zeros(3, jnp.int32))
