# SPDX-License-Identifier: Apache-2.0
"""All losses from logits: jit, vmap, bfloat16, masks, infinities, one and eight devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from unilogit_jax.losses import cross_entropy, grad_ascent, grad_diff, undial, unilogit

pytestmark = pytest.mark.usefixtures("strict_dtypes")

B, L, V = 8, 4, 64
PER_TOKEN = {
    "cross_entropy": lambda z, y, mask: cross_entropy(z, y, mask),
    "grad_ascent": lambda z, y, mask: grad_ascent(z, y, mask),
    "undial": lambda z, y, mask: undial(z, jnp.flip(z, axis=-1), y, mask),
    "unilogit": lambda z, y, mask: unilogit(z, y, mask),
    "unilogit_forward": lambda z, y, mask: unilogit(z, y, mask, direction="forward"),
}
each_loss = pytest.mark.parametrize("name", PER_TOKEN)


def batch(rng):
    z = jnp.asarray(rng.normal(size=(B, L, V)) * 4, jnp.float32)
    y = jnp.asarray(rng.integers(0, V, size=(B, L)), jnp.int32).at[0, 0].set(-100)
    return z, y, jnp.asarray(rng.random((B, L)) < 0.7)


def value_and_grad(loss):
    def total(z, y, mask):
        values = loss(z, y, mask)
        return jnp.sum(values), values

    def run(z, y, mask):
        (_, values), grad = jax.value_and_grad(total, has_aux=True)(z, y, mask)
        return values, grad

    return run


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


@each_loss
def test_jit_and_vmap_change_nothing(rng, name):
    run, data = value_and_grad(PER_TOKEN[name]), batch(rng)
    plain = run(*data)
    assert_same(jax.jit(run)(*data), plain)
    assert_same(jax.jit(jax.vmap(jax.vmap(run)))(*data), plain)


@each_loss
def test_forward_mode_agrees_with_reverse_mode(rng, name):
    z, y, mask = batch(rng)
    direction = jnp.asarray(rng.normal(size=z.shape), jnp.float32)

    def loss(z):
        return PER_TOKEN[name](z, y, mask)

    _, tangent = jax.jit(lambda z: jax.jvp(loss, (z,), (direction,)))(z)
    _, grad = jax.jit(value_and_grad(PER_TOKEN[name]))(z, y, mask)
    np.testing.assert_allclose(tangent, np.sum(grad * direction, -1), rtol=1e-4, atol=1e-5)


@each_loss
def test_bfloat16_logits_are_computed_in_float32(rng, name):
    z, y, mask = batch(rng)
    z = z.astype(jnp.bfloat16)
    run = jax.jit(value_and_grad(PER_TOKEN[name]))
    values, grad = run(z, y, mask)
    assert values.dtype == jnp.float32 and grad.dtype == jnp.bfloat16
    exact, exact_grad = run(z.astype(jnp.float32), y, mask)
    np.testing.assert_array_equal(values, exact)
    np.testing.assert_array_equal(grad, exact_grad.astype(jnp.bfloat16))


@each_loss
def test_a_fully_masked_batch_gives_zero_and_no_gradient(name):
    z, y = jnp.full((2, 3, 5), jnp.nan), jnp.zeros((2, 3), jnp.int32)
    run = jax.jit(value_and_grad(PER_TOKEN[name]))
    for labels, mask in ((y, jnp.zeros((2, 3))), (y - 100, jnp.ones((2, 3)))):
        values, grad = run(z, labels, mask)
        assert not np.any(values) and not np.any(grad)


@each_loss
def test_minus_infinite_logits_never_give_nan_gradients(name):
    inf = jnp.inf
    rows = [[-inf, 1.0, 2.0, 0.5], [3.0, -inf, -inf, -inf], [3.0, -inf, 1.0, -inf]]
    z, y = jnp.array(rows), jnp.zeros(3, jnp.int32)
    loss = PER_TOKEN[name]
    if name == "undial":  # its teacher has the same impossible entries
        loss = lambda z, y, mask: undial(z, z, y, mask)  # noqa: E731
    values, grad = jax.jit(value_and_grad(loss))(z, y, None)
    assert not np.any(np.isnan(values)) and np.all(np.isfinite(grad))


@each_loss
@pytest.mark.parametrize("shape", [(8, 1), (2, 4)])
def test_one_and_eight_devices_agree(rng, name, shape):
    data = batch(rng)
    mesh = jax.make_mesh(shape, ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    specs = (P("data", None, "tensor"), P("data", None), P("data", None))
    placed = [
        jax.device_put(x, NamedSharding(mesh, spec)) for x, spec in zip(data, specs, strict=True)
    ]
    run = jax.jit(value_and_grad(PER_TOKEN[name]))
    values, grad = run(*placed)
    assert grad.sharding.is_equivalent_to(placed[0].sharding, 3)
    assert_same((values, grad), run(*data))


def test_sharded_unilogit_moves_no_logits(rng):
    mesh = jax.make_mesh((2, 4), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    z, y, mask = batch(rng)
    z = jax.device_put(z, NamedSharding(mesh, P("data", None, "tensor")))
    y = jax.device_put(y, NamedSharding(mesh, P("data", None)))
    mask = jax.device_put(mask, NamedSharding(mesh, P("data", None)))
    text = jax.jit(value_and_grad(PER_TOKEN["unilogit"])).lower(z, y, mask).compile().as_text()
    assert "all-reduce" in text
    for collective in ("all-gather", "all-to-all", "collective-permute"):
        assert collective not in text


def test_sharded_grad_diff_equals_the_unsharded_one(rng):
    z, y, mask = batch(rng)
    mesh = jax.make_mesh((2, 4), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)

    def loss(z, y, mask):
        return grad_diff(z, y, z, y, forget_mask=mask, retain_mask=~mask, retain_weight=0.5)

    run = jax.jit(jax.value_and_grad(loss))
    placed = jax.device_put(z, NamedSharding(mesh, P("data", None, "tensor")))
    assert_same(run(placed, y, mask), run(z, y, mask))
