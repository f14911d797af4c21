# SPDX-License-Identifier: Apache-2.0
"""Attention and whole training steps, compiled ahead of time for four v5e chips."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from unilogit_jax import models
from unilogit_jax.data import Rows, assemble
from unilogit_jax.methods import Unilogit
from unilogit_jax.models.attention import attention, look
from unilogit_jax.sharding import batch_shardings, partition_spec
from unilogit_jax.train import make_optimizer, make_step
from unilogit_jax.train.state import abstract_state, place

ROWS, LENGTH = 4, 512
KERNELS = ("splash_mha_fwd_segmented", "splash_mha_dkv_segmented", "splash_mha_dq_segmented")
"""The kernel's names for the forward pass, and the backward passes of keys and of queries."""
SIZES = {
    "vocab_size": 2304,
    "width": 256,
    "layers": 4,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 128,
    "mlp_width": 768,
    "max_length": LENGTH,
    "dtype": "bfloat16",
}
MODELS = {
    "llama": models.DecoderConfig.scratch(**SIZES),
    "gemma2": models.DecoderConfig.scratch(
        **(SIZES | {"head_dim": 256}),
        block="sandwich",
        norm="rms_one",
        activation="gelu_tanh",
        window=200,
        local_layers=(True, False, True, False),
        attention_softcap=50.0,
        final_softcap=30.0,
    ),
}


def on_chips(shape, axes, mesh, dtype="bfloat16"):
    """The shape of an array that is divided as its logical axes say."""
    sharding = NamedSharding(mesh, partition_spec(axes, shape, mesh))
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def compile_attention(mesh, *, length=LENGTH, keys=None, heads=4, kv_heads=2, **settings):
    """Attention and its gradient, lowered for the mesh."""

    def loss(q, k, v, segments, key_segments):
        sight = look(segments, key_segments, window=settings.get("window"))
        out = attention(
            q,
            k,
            v,
            sight,
            softcap=settings.get("softcap"),
            kernel=settings.get("kernel", "auto"),
            mesh=mesh,
        )
        return jnp.sum(jnp.square(out.astype(jnp.float32)))

    keys = length if keys is None else keys
    width, dtype = settings.get("head_dim", 128), settings.get("dtype", "bfloat16")
    q = on_chips((ROWS, length, heads, width), ("batch", None, "heads", None), mesh, dtype)
    kv = on_chips((ROWS, keys, kv_heads, width), ("batch", None, "kv_heads", None), mesh, dtype)
    segments = [on_chips((ROWS, n), ("batch", None), mesh, "int32") for n in (length, keys)]
    return jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(q, kv, kv, *segments)


def compile_step(config, mesh):
    """(compiled step of Unilogit with AdamW, the state's shapes and shardings)."""
    model = models.Decoder(config, mesh=mesh, remat="full")
    method, optimizer = Unilogit(), make_optimizer(10, learning_rate=1e-5)
    shapes, axes = models.param_shapes(model), models.logical_axes(model)
    state, shardings = abstract_state(shapes, optimizer, axes=axes, mesh=mesh)
    zeros = np.zeros((ROWS, LENGTH), np.int32)
    sizes, sets = np.full(ROWS, LENGTH, np.int32), np.array([1, 1, 2, 2], np.int32)
    batch = assemble([(Rows(zeros, zeros, sizes), np.arange(ROWS), {})], sets)
    batch = place(batch, batch_shardings(batch, mesh))
    step = make_step(method, models.apply_fn(model), optimizer, mesh, shardings=shardings)
    return step.lower(state, batch).compile(), state


def squares(text):
    """The arrays of a program that are as wide as a row is long, twice."""
    return re.findall(rf"\w+\[(?:\d+,)*{LENGTH},{LENGTH}\]", text)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"window": 200, "softcap": 50.0, "head_dim": 256},
        {"kv_heads": 1, "head_dim": 64, "dtype": "float32"},
        {"heads": 3, "kv_heads": 3, "head_dim": 80, "length": 136},
    ],
    ids=["plain", "gemma2", "one_group_for_two_chips", "nothing_divides"],
)
def test_attention_and_its_gradient_compile_to_the_three_kernels(mesh, settings):
    text = compile_attention(mesh, **settings).compile().as_text()
    calls = [line for line in text.splitlines() if 'custom_call_target="tpu_custom_call"' in line]
    assert len(calls) == 3
    assert all(any(name in line for line in calls) for name in KERNELS)
    assert not squares(text)


def test_xla_attention_has_the_square_arrays_that_the_kernel_avoids(mesh):
    text = compile_attention(mesh, kernel="xla").compile().as_text()
    assert squares(text) and "tpu_custom_call" not in text


@pytest.mark.parametrize("settings", [{"length": 64}, {"length": 128, "keys": 256}])
def test_short_rows_and_cached_keys_are_left_to_xla(mesh, settings):
    assert "tpu_custom_call" not in compile_attention(mesh, **settings).as_text()


@pytest.mark.parametrize("name", MODELS)
def test_a_training_step_compiles_with_the_kernel_and_without_square_arrays(mesh, name):
    compiled, state = compile_step(MODELS[name], mesh)
    text = compiled.as_text()
    assert all(kernel in text for kernel in KERNELS)
    assert not squares(text)
    memory = compiled.memory_analysis()
    # Weights and both moments, float32, each chip holding the part that its sharding says.
    held = sum(
        np.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(state)
    )
    assert held <= memory.argument_size_in_bytes <= 1.05 * held
    assert memory.alias_size_in_bytes >= held, "the old state's memory becomes the new one's"
    assert 0 < memory.temp_size_in_bytes < 16 * 2**30
