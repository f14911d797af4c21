# SPDX-License-Identifier: Apache-2.0
"""Losses from hidden states equal the losses from logits, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax import losses
from unilogit_jax.types import Head

pytestmark = pytest.mark.usefixtures("strict_dtypes")


@pytest.fixture
def arrays(rng):
    hidden = jnp.asarray(rng.normal(size=(2, 6, 8)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(11, 8)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 11, (2, 6)), jnp.int32).at[0, 2].set(-100)
    mask = jnp.asarray(rng.random((2, 6)) > 0.3)
    return hidden, kernel, labels, mask


CASES = {
    "paper": {},
    "forward": {"direction": "forward"},
    "tau": {"tau": 0.3},
    "tau per token": {"tau": jnp.linspace(0.0, 0.9, 12).reshape(2, 6)},
    "unlikelihood": {"direction": "forward", "tau": 0.0},
}


@pytest.mark.parametrize("case", CASES)
def test_unilogit_from_hidden_states_equals_unilogit_from_logits(arrays, case):
    hidden, kernel, labels, mask = arrays
    options = CASES[case]
    if case == "tau per token":
        mask = mask.at[0, 0].set(False)  # where tau is 0

    def fused(hidden, kernel):
        values = losses.unilogit_head(hidden, kernel, labels, mask, **options)
        return losses.masked_mean(values, mask), values

    def whole(hidden, kernel):
        logits = jnp.einsum("bld,vd->blv", hidden, kernel, precision="highest")
        values = losses.unilogit(logits, labels, mask, **options)
        return losses.masked_mean(values, mask), values

    run = [jax.jit(jax.value_and_grad(f, (0, 1), has_aux=True)) for f in (fused, whole)]
    got, wanted = (jax.tree.leaves(f(hidden, kernel)) for f in run)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_undial_from_hidden_states_equals_undial_from_logits(arrays, rng):
    hidden, kernel, labels, mask = arrays
    ref_hidden = jnp.asarray(rng.normal(size=(2, 6, 5)), jnp.float32)
    ref_head = Head(kernel=jnp.asarray(rng.normal(size=(5, 11)), jnp.float32), layout="dv")

    def fused(hidden, kernel):
        values = losses.undial_head(hidden, kernel, ref_hidden, ref_head, labels, mask, beta=3.0)
        return losses.masked_mean(values, mask), values

    def whole(hidden, kernel):
        logits = jnp.einsum("bld,vd->blv", hidden, kernel, precision="highest")
        values = losses.undial(logits, ref_head.logits(ref_hidden), labels, mask, beta=3.0)
        return losses.masked_mean(values, mask), values

    run = [jax.jit(jax.value_and_grad(f, (0, 1), has_aux=True)) for f in (fused, whole)]
    got, wanted = (jax.tree.leaves(f(hidden, kernel)) for f in run)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_cross_entropy_from_hidden_states_equals_cross_entropy_from_logits(arrays):
    hidden, kernel, labels, mask = arrays
    head = Head(kernel=kernel.T, layout="dv", softcap=3.0)
    values = losses.cross_entropy_head(hidden, head, labels, mask)
    wanted = losses.cross_entropy(head.logits(hidden), labels, mask)
    np.testing.assert_allclose(values, wanted, rtol=1e-5, atol=1e-6)
    assert values[0, 2] == 0
