# SPDX-License-Identifier: Apache-2.0
"""Means over tokens and examples, and sequence log-probabilities."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from losses_oracle import log_softmax

from unilogit_jax.losses import masked_mean, sequence_logprobs

pytestmark = pytest.mark.usefixtures("strict_dtypes")


def test_token_mean_and_example_mean_equal_numpy(rng):
    values = rng.normal(size=(2, 3, 5))
    mask = rng.random((2, 3, 5)) < 0.5
    mask[1, 2] = False
    mask[0, 0] = True
    tokens = values[mask].mean()
    examples = np.mean([values[i][mask[i]].mean() for i in np.ndindex(2, 3) if mask[i].any()])
    dirty = jnp.asarray(np.where(mask, values, np.nan), jnp.float32)
    run = jax.jit(masked_mean, static_argnames="over")
    for kind in (bool, np.int32, np.float32):
        cast = jnp.asarray(mask.astype(kind))
        np.testing.assert_allclose(run(dirty, cast), tokens, rtol=1e-5)
        np.testing.assert_allclose(run(dirty, cast, over="examples"), examples, rtol=1e-5)


@pytest.mark.parametrize("over", ["tokens", "examples"])
def test_a_batch_without_tokens_has_mean_zero_and_no_gradient(over):
    values = jnp.full((2, 3), jnp.nan, jnp.bfloat16)
    mean = jax.value_and_grad(lambda v: masked_mean(v, jnp.zeros((2, 3)), over=over))
    value, grad = jax.jit(mean)(values)
    assert value == 0 and value.dtype == jnp.float32
    assert not np.any(grad)


def test_token_mean_does_not_depend_on_how_tokens_are_laid_out(rng):
    values = jnp.asarray(rng.normal(size=12), jnp.float32)
    padded = jnp.concatenate([values, jnp.full(8, jnp.inf)]).reshape(4, 5)
    flat = masked_mean(values, jnp.ones(12))
    np.testing.assert_allclose(masked_mean(padded, jnp.isfinite(padded)), flat, rtol=1e-5)


def test_an_unknown_way_to_average_is_refused():
    with pytest.raises(ValueError, match="unknown; use one of 'tokens', 'examples'"):
        inspect.unwrap(masked_mean)(jnp.zeros(2), jnp.ones(2), over="batch")


def test_sequence_logprobs_equal_numpy_and_leave_masked_tokens_out(rng):
    z = rng.normal(size=(2, 4, 9))
    labels = rng.integers(0, 9, size=(2, 4))
    mask = np.array([[1, 1, 0, 1], [0, 0, 0, 0]])
    token = np.take_along_axis(log_softmax(z), labels[..., None], -1)[..., 0]
    dirty = jnp.asarray(np.where(mask[..., None], z, np.nan), jnp.float32)
    run = jax.jit(sequence_logprobs)
    ours = run(dirty, jnp.asarray(labels, jnp.int32), jnp.asarray(mask))
    np.testing.assert_allclose(ours, (token * mask).sum(-1), rtol=1e-5)
    ignored = jnp.asarray(np.where(mask, labels, -100), jnp.int32)
    np.testing.assert_array_equal(run(dirty, ignored), ours)
