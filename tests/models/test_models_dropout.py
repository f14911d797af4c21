# SPDX-License-Identifier: Apache-2.0
"""Dropout of adapters: only with a key, the right share, scaled up, other masks everywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax import models
from unilogit_jax.errors import ConfigError
from unilogit_jax.methods import Unilogit
from unilogit_jax.models.layer import Linear
from unilogit_jax.models.lora import Lora, lora_apply_fn, merge_lora
from unilogit_jax.sharding import make_mesh, put_batch
from unilogit_jax.train import init_state, make_optimizer, make_step
from unilogit_jax.types import FORGET, RETAIN, Batch

RATE = 0.25
LORA = Lora(rank=2, alpha=4.0, dropout=RATE, targets=("*",))


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 64, (8, 10)).astype(np.int32)
    sets = np.repeat(np.array([FORGET, RETAIN], np.int32), 4)[:, None] * np.ones_like(tokens)
    return Batch(
        tokens=tokens,
        labels=rng.integers(0, 64, (8, 10)).astype(np.int32),
        segments=np.ones_like(tokens),
        positions=np.arange(10, dtype=np.int32)[None, :] * np.ones_like(tokens),
        sets=sets,
        weights=np.ones((8, 10), np.float32),
        num_segments=2,
    )


def filled(lora, model):
    rng = np.random.default_rng(7)
    shapes = lora.shapes(model)
    return jax.tree.map(lambda x: jnp.asarray(0.1 * rng.normal(size=x.shape), x.dtype), shapes)


def test_a_linear_layer_drops_the_stated_share_and_scales_the_rest(make_tiny):
    config = make_tiny()[0].config
    layer, x = Linear(config, (64, 64), ("embed", "mlp")), jnp.ones((100, 64))
    factors = {"a": jnp.eye(64), "b": jnp.eye(64), "rate": jnp.float32(RATE)}
    variables = {"params": {"kernel": jnp.zeros((64, 64))}, "lora": factors}
    y = np.asarray(layer.apply(variables, x, rngs={"lora": jax.random.key(0)}))
    assert (np.isclose(y, 0.0) | np.isclose(y, 1 / (1 - RATE))).all()
    spread = np.sqrt(RATE * (1 - RATE) / y.size)
    assert abs((y == 0).mean() - RATE) <= 4 * spread
    np.testing.assert_array_equal(layer.apply(variables, x), x)


def test_nothing_is_dropped_without_a_key_and_the_key_decides_what_is(tiny, batch):
    model, params = tiny
    adapters = filled(LORA, model)
    apply = jax.jit(lambda *a: lora_apply_fn(model, LORA)(*a).hidden)
    plain = jax.jit(
        lambda *a: lora_apply_fn(model, Lora(rank=2, alpha=4.0, targets=("*",)))(*a).hidden
    )
    given = adapters, jax.tree.map(jnp.asarray, batch), params
    np.testing.assert_array_equal(apply(*given), plain(*given))
    one, again, other = (apply(*given, jax.random.key(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3 and np.abs(one - apply(*given)).max() > 1e-3


def test_every_layer_and_projection_draws_with_a_key_of_its_own(tiny, batch, monkeypatch):
    model, params = tiny
    keys, draw = [], jax.random.bernoulli

    def recording(key, p, shape):
        keys.append(tuple(np.asarray(jax.random.key_data(key)).tolist()))
        return draw(key, p, shape)

    monkeypatch.setattr(jax.random, "bernoulli", recording)
    given = filled(LORA, model), jax.tree.map(jnp.asarray, batch), params, jax.random.key(3)
    with jax.disable_jit():
        lora_apply_fn(model, LORA)(*given)
    assert len(set(keys)) == len(keys) == 2 * 7, "two layers of seven projections"


def test_merging_leaves_dropout_out(tiny, batch):
    model, params = tiny
    adapters, given = filled(LORA, model), jax.tree.map(jnp.asarray, batch)
    merged = models.apply_fn(model)(merge_lora(params, adapters, LORA), given).hidden
    wanted = lora_apply_fn(model, LORA)(adapters, given, params).hidden
    np.testing.assert_allclose(merged, wanted, rtol=0, atol=1e-5)


def test_training_with_dropout_depends_on_seed_and_update_and_not_on_the_mesh(make_tiny, batch):
    model, params = make_tiny()

    def losses(mesh, seed):
        placed = model.clone(mesh=mesh)
        base = jax.device_put(params, models.param_shardings(placed, mesh))
        optimizer = make_optimizer(3, learning_rate=1e-2)
        adapters = jax.device_put(filled(LORA, placed), LORA.shardings(placed, mesh))
        axes = LORA.logical_axes(placed)
        state, shardings = init_state(adapters, optimizer, axes=axes, mesh=mesh)
        step = make_step(
            Unilogit(),
            lora_apply_fn(placed, LORA),
            optimizer,
            mesh,
            shardings=shardings,
            frozen=base,
            seed=seed,
        )
        found = []
        for _ in range(3):
            state, metrics = step(state, put_batch(batch, mesh))
            found.append(float(metrics["loss"]))
        return found

    one = make_mesh(fsdp=1, devices=jax.devices()[:1])
    first = losses(one, seed=0)
    assert losses(one, seed=0) == first
    assert losses(one, seed=1) != first
    assert losses(make_mesh(fsdp=4, tensor=2), seed=0) == pytest.approx(first, rel=1e-5)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_share_that_is_none_is_refused(rate):
    with pytest.raises(ConfigError, match=r"lora\.dropout must be at least 0 and below 1"):
        Lora(dropout=rate)
