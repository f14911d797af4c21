# SPDX-License-Identifier: Apache-2.0
"""All losses from logits: jit, vmap, bfloat16, masks, infinities, one and eight devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from unilogit_jax.losses import (
    cross_entropy,
    grad_ascent,
    grad_diff,
    ihl,
    satimp,
    undial,
    unilogit,
    unlikelihood,
    wga,
)

pytestmark = pytest.mark.usefixtures("strict_dtypes")

B, L, V = 8, 4, 64
LOSSES = {
    "cross_entropy": cross_entropy,
    "grad_ascent": grad_ascent,
    "ihl": lambda z, y, mask: ihl(z, y, mask, margin=0.5),
    "satimp": satimp,
    "undial": lambda z, y, mask: undial(z, jnp.where(z > 2, -z, z), y, mask),
    "unilogit": unilogit,
    "unilogit_forward": lambda z, y, mask: unilogit(z, y, mask, direction="forward"),
    "unlikelihood": unlikelihood,
    "wga": wga,
}


def batch(rng):
    z = jnp.asarray(rng.normal(size=(B, L, V)) * 4, jnp.float32)
    y = jnp.asarray(rng.integers(0, V, size=(B, L)), jnp.int32).at[0, 0].set(-100)
    return z, y, jnp.asarray(rng.random((B, L)) < 0.7)


def values_and_grads(z, y, mask):
    """Per loss its values and the gradient of their sum; all in one function, to compile once."""
    result = {}
    for name, loss in LOSSES.items():

        def total(z, loss=loss):
            values = loss(z, y, mask)
            return jnp.sum(values), values

        (_, values), grad = jax.value_and_grad(total, has_aux=True)(z)
        result[name] = (values, grad)
    return result


compiled = jax.jit(values_and_grads)


def assert_same(a, b):
    for name in LOSSES:
        for x, y in zip(a[name], b[name], strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6, err_msg=name)


def test_vmap_changes_nothing(rng):
    data = batch(rng)
    assert_same(jax.jit(jax.vmap(jax.vmap(values_and_grads)))(*data), compiled(*data))


def test_jit_changes_nothing(rng):
    data = batch(rng)
    expected = compiled(*data)
    for name, loss in LOSSES.items():
        values = loss(*data)
        np.testing.assert_allclose(values, expected[name][0], rtol=1e-5, atol=1e-6, err_msg=name)
    grad = jax.grad(lambda z: jnp.sum(unilogit(z, *data[1:])))(data[0])
    np.testing.assert_allclose(grad, expected["unilogit"][1], rtol=1e-5, atol=1e-6)


def test_forward_mode_agrees_with_reverse_mode(rng):
    z, y, mask = batch(rng)
    direction = jnp.asarray(rng.normal(size=z.shape), jnp.float32)

    @jax.jit
    def tangents(z):
        losses = {name: (lambda z, f=f: f(z, y, mask)) for name, f in LOSSES.items()}
        return {name: jax.jvp(f, (z,), (direction,))[1] for name, f in losses.items()}

    expected, got = compiled(z, y, mask), tangents(z)
    for name in LOSSES:
        product = np.sum(np.asarray(expected[name][1]) * np.asarray(direction), -1)
        np.testing.assert_allclose(got[name], product, rtol=1e-4, atol=1e-4, err_msg=name)


def test_bfloat16_logits_are_computed_in_float32(rng):
    z, y, mask = batch(rng)
    z = z.astype(jnp.bfloat16)
    low, exact = compiled(z, y, mask), compiled(z.astype(jnp.float32), y, mask)
    for name in LOSSES:
        values, grad = low[name]
        assert values.dtype == jnp.float32 and grad.dtype == jnp.bfloat16
        np.testing.assert_allclose(values, exact[name][0], rtol=1e-5, atol=1e-6, err_msg=name)
        rounded = np.asarray(exact[name][1])
        np.testing.assert_allclose(np.asarray(grad, np.float32), rounded, rtol=5e-3, atol=1e-6)


def test_a_fully_masked_batch_gives_zero_and_no_gradient():
    z, y = jnp.full((B, L, V), jnp.nan), jnp.zeros((B, L), jnp.int32)
    for labels, mask in ((y, jnp.zeros((B, L), bool)), (y - 100, jnp.ones((B, L), bool))):
        for name, (values, grad) in compiled(z, labels, mask).items():
            assert not np.any(values) and not np.any(grad), name


def test_minus_infinite_logits_never_give_nan_gradients():
    inf = np.inf
    z = np.full((B, L, V), -inf, np.float32)
    z[0, 0, :4] = [-inf, 1.0, 2.0, 0.5]  # impossible label
    z[0, 1, :4] = [3.0, -inf, -inf, -inf]  # certain label
    z[0, 2, :4] = [3.0, -inf, 1.0, -inf]  # one alternative
    mask = jnp.zeros((B, L), bool).at[0, :3].set(True)
    for name, (values, grad) in compiled(
        jnp.asarray(z), jnp.zeros((B, L), jnp.int32), mask
    ).items():
        assert not np.any(np.isnan(values)) and np.all(np.isfinite(grad)), name


@pytest.mark.parametrize("shape", [(8, 1), (2, 4)])
def test_one_and_eight_devices_agree_and_no_logits_are_moved(rng, shape):
    data = batch(rng)
    mesh = jax.make_mesh(shape, ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    specs = (P("data", None, "tensor"), P("data", None), P("data", None))
    placed = [
        jax.device_put(x, NamedSharding(mesh, spec)) for x, spec in zip(data, specs, strict=True)
    ]
    executable = compiled.lower(*placed).compile()
    result = executable(*placed)
    assert_same(result, compiled(*data))
    for _, grad in result.values():
        assert grad.sharding.is_equivalent_to(placed[0].sharding, 3)
    text = executable.as_text()
    assert ("all-reduce" in text) == (shape[1] > 1)
    for collective in ("all-gather", "all-to-all", "collective-permute"):
        assert collective not in text


def test_sharded_grad_diff_equals_the_unsharded_one(rng):
    z, y, mask = batch(rng)
    mesh = jax.make_mesh((2, 4), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)

    @jax.jit
    @jax.value_and_grad
    def run(z):
        return grad_diff(z, y, z, y, forget_mask=mask, retain_mask=~mask, retain_weight=0.5)

    sharded = run(jax.device_put(z, NamedSharding(mesh, P("data", None, "tensor"))))
    for a, b in zip(sharded, run(z), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
