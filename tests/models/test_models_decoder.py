# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax import models
from unilogit_jax.sharding import make_mesh, put_batch
from unilogit_jax.types import Batch

TOLERANCE = 1e-5


def apply(model, params, *args, **kwargs):
    return jax.jit(lambda params: model.apply({"params": params}, *args, **kwargs))(params)


def logits(model, params, *args):
    return np.asarray(apply(model, params, *args).logits())


def close(a, b):
    np.testing.assert_allclose(a, b, atol=TOLERANCE, rtol=0)


def batch_of(tokens, segments, positions):
    rest = jnp.zeros_like(tokens)
    weights = jnp.ones(tokens.shape)
    return Batch(
        tokens=tokens,
        labels=rest,
        segments=segments,
        positions=positions,
        sets=rest,
        weights=weights,
    )


def test_packed_examples_get_the_logits_they_get_alone(tiny, rng):
    model, params = tiny
    a, b = rng.integers(0, 64, 5).tolist(), rng.integers(0, 64, 8).tolist()
    tokens = jnp.asarray([a + b + [0] * 3, a + [0] * 11, b + [0] * 8])
    segments = jnp.asarray([[1] * 5 + [2] * 8 + [0] * 3, [3] * 5 + [0] * 11, [4] * 8 + [0] * 8])
    positions = jnp.asarray([[*range(5), *range(8), 0, 0, 0], [*range(16)], [*range(16)]])
    packed, alone_a, alone_b = logits(model, params, tokens, segments, positions)
    close(packed[:5], alone_a[:5])
    close(packed[5:13], alone_b[:8])


def test_rows_of_padding_give_finite_values_and_gradients(tiny):
    model, params = tiny
    tokens = jnp.zeros((2, 6), jnp.int32)
    segments = jnp.asarray([[0] * 6, [0, 0, 1, 1, 0, 0]])

    def total(params):
        return model.apply({"params": params}, tokens, segments).logits().sum()

    value, grads = jax.jit(jax.value_and_grad(total))(params)
    assert np.isfinite(value)
    assert jax.tree.all(jax.tree.map(lambda g: bool(jnp.isfinite(g).all()), grads))


def test_prefill_and_single_steps_with_a_cache_equal_one_full_forward(tiny, rng):
    model, params = tiny
    tokens = jnp.asarray(rng.integers(0, 64, (3, 9)))
    full = logits(model, params, tokens)
    step = jax.jit(lambda tokens, cache: model.apply({"params": params}, tokens, cache=cache))
    output, cache = step(tokens[:, :6], models.make_cache(model.config, rows=3, length=12))
    parts = [output.logits()]
    for t in range(6, 9):
        output, cache = step(tokens[:, t : t + 1], cache)
        parts.append(output.logits())
    assert int(cache.index) == 9
    close(np.concatenate(parts, axis=1), full)


def test_an_untied_head_is_its_own_parameter_and_a_tied_one_is_the_embedding(make_tiny):
    tokens = jnp.zeros((1, 2), jnp.int32)
    model, params = make_tiny()
    assert "lm_head" not in params
    tied = apply(model, params, tokens).head.kernel
    np.testing.assert_array_equal(tied, params["embed"]["kernel"])
    model, params = make_tiny(tie_embeddings=False)
    own = apply(model, params, tokens).head.kernel
    np.testing.assert_array_equal(own, params["lm_head"]["kernel"])


def test_bfloat16_computes_in_bfloat16_near_the_float32_result(make_tiny, rng):
    tokens = jnp.asarray(rng.integers(0, 64, (2, 8)))
    exact = logits(*make_tiny(), tokens)
    output = apply(*make_tiny(dtype="bfloat16"), tokens)
    assert output.hidden.dtype == jnp.bfloat16
    assert output.logits().dtype == jnp.float32
    assert np.linalg.norm(output.logits() - exact) < 2e-2 * np.linalg.norm(exact)


def test_remat_keeps_what_it_says_and_changes_no_gradient(make_tiny, rng):
    model, params = make_tiny(layers=3)
    tokens = jnp.asarray(rng.integers(0, model.config.vocab_size, (4, 16)), jnp.int32)

    def kept(model):
        def forward(params):
            return model.apply({"params": params}, tokens).hidden

        backward = jax.eval_shape(lambda params: jax.vjp(forward, params)[1], params)
        return sum(leaf.size for leaf in jax.tree.leaves(backward))

    weights = sum(leaf.size for leaf in jax.tree.leaves(params))
    inputs = model.config.layers * tokens.size * model.config.width
    none, dots, full = (kept(model.clone(remat=way)) for way in ("none", "dots", "full"))
    assert full < weights + 2 * inputs < dots < none

    def gradient(way):
        again = model.clone(remat=way)

        def loss(params):
            return jnp.sum(jnp.square(again.apply({"params": params}, tokens).logits()))

        return jax.jit(jax.grad(loss))(params)

    wanted = gradient("none")
    for way in ("dots", "full"):
        for a, b in zip(*map(jax.tree.leaves, (gradient(way), wanted)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * float(jnp.abs(b).max()))


def test_the_same_key_gives_the_same_parameters_with_and_without_a_mesh():
    config = models.DecoderConfig.scratch(vocab_size=64, width=32, heads=4)
    _, alone = models.init(config, jax.random.key(1))
    _, spread = models.init(config, jax.random.key(1), mesh=make_mesh(fsdp=4, tensor=2))
    jax.tree.map(np.testing.assert_array_equal, alone, spread)
    kernel = spread["layers"]["attn"]["q_proj"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (2, 8, 2, 8)
    spread_of = np.std(np.asarray(spread["layers"]["mlp"]["up_proj"]["kernel"]))
    assert spread_of == pytest.approx(config.init_scale, rel=0.05)


def test_one_and_eight_devices_give_the_same_logits_and_gradients(make_tiny, rng):
    model, params = make_tiny()
    tokens = jnp.asarray(rng.integers(0, 64, (8, 12)))
    segments = jnp.asarray([[1] * 7 + [2] * 5] * 8)
    positions = jnp.asarray([[*range(7), *range(5)]] * 8)
    batch = batch_of(tokens, segments, positions)

    def grads(model, params, batch):
        def total(params):
            z = models.apply_fn(model)(params, batch).logits()
            return jnp.square(z).mean(), z

        (_, z), grads = jax.jit(jax.value_and_grad(total, has_aux=True))(params)
        return z, grads

    mesh = make_mesh(fsdp=4, tensor=2)
    spread = jax.device_put(params, models.param_shardings(model, mesh))
    one = grads(model, params, batch)
    eight = grads(dataclasses.replace(model, mesh=mesh), spread, put_batch(batch, mesh))
    jax.tree.map(close, one, eight)


def backward_layers(jaxpr):
    """Layers that the scans of a program go through in reverse, one per turn for one period."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan" and equation.params["reverse"]:
            total += equation.params["length"]
        elif equation.primitive.name in ("jit", "pjit"):
            total += backward_layers(equation.params["jaxpr"].jaxpr)
    return total


LOCAL = {"plain": (), "alternating": (True, False) * 4, "mixed": (True, True, False, True) * 2}


@pytest.mark.parametrize("kinds", LOCAL)
@pytest.mark.parametrize("remat", ["none", "full"])
def test_a_range_of_trained_layers_changes_no_value_and_ends_the_backward_pass_at_it(
    make_tiny, rng, kinds, remat
):
    local = LOCAL[kinds]
    model, params = make_tiny(layers=8, local_layers=local, window=3 if local else None)
    tokens = jnp.asarray(rng.integers(0, 64, (2, 9)))
    down = params["layers"]["mlp"]["down_proj"]["kernel"]

    def total(model, part):
        new = dict(params["layers"], mlp=dict(params["layers"]["mlp"]))
        new["mlp"]["down_proj"] = {"kernel": down.at[3:5].set(part)}
        hidden = model.apply({"params": {**params, "layers": new}}, tokens).hidden
        return jnp.sum(jnp.sin(hidden))

    model = model.clone(remat=remat)
    run = [
        jax.value_and_grad(lambda part, m=m: total(m, part))
        for m in (model, model.clone(trained=(3, 5)))
    ]
    (value, grads), (split_value, split_grads) = (jax.jit(f)(down[3:5]) for f in run)
    assert float(split_value) == pytest.approx(float(value), rel=1e-6)
    assert np.abs(split_grads - grads).max() <= 1e-5 * np.abs(grads).max()
    if kinds == "plain":
        lengths = [backward_layers(jax.make_jaxpr(f)(down[3:5]).jaxpr) for f in run]
        assert lengths == [8, 5]


def test_the_layers_outside_the_trained_range_have_no_gradient(make_tiny, rng):
    model, params = make_tiny(layers=4)
    tokens = jnp.asarray(rng.integers(0, 64, (2, 9)))

    def total(params):
        return jnp.sum(
            jnp.sin(model.clone(trained=(1, 3)).apply({"params": params}, tokens).hidden)
        )

    for leaf in jax.tree.leaves(jax.jit(jax.grad(total))(params)["layers"]):
        assert not np.any(leaf[0]) and not np.any(leaf[3])
        assert np.any(leaf[1]) and np.any(leaf[2])
