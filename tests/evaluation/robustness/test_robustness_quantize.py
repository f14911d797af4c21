# SPDX-License-Identifier: Apache-2.0
"""Rounded weights against sums in doubles, published levels, and the layout of real kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax import models
from unilogit_jax.evaluation.robustness import (
    nf4_levels,
    quantize,
    round_int4,
    round_int8,
    round_nf4,
)
from unilogit_jax.sharding import make_mesh

# QLoRA (arXiv:2305.14314), appendix E.
PUBLISHED = [
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
]


@pytest.fixture
def weights():
    """Rows of outputs of very different sizes, one of zeros, no whole number of groups."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 150)) * np.array([1e-3, 1.0, 40.0, 0.0, 1.0])[:, None]
    return x.astype(np.float32)


def groups(x, size):
    """Slices of the last axis."""
    return [np.s_[:, at : at + size] for at in range(0, x.shape[1], size)]


@pytest.mark.parametrize(
    ("run", "most", "size"), [(round_int8, 127, 150), (round_int4, 7, 64)], ids=["int8", "int4"]
)
def test_whole_numbers_times_a_scale_and_never_further_than_half_a_step(weights, run, most, size):
    found = np.asarray(run(jnp.asarray(weights)), np.float64)
    for part in groups(weights, size):
        x, y = weights[part].astype(np.float64), found[part]
        step = np.abs(x).max(axis=1, keepdims=True) / most
        assert np.all(np.abs(x - y) <= step * (0.5 + 1e-5))
        whole = y[step[:, 0] > 0] / step[step > 0][:, None]
        np.testing.assert_allclose(whole, np.round(whole), atol=most * 1e-6)
        assert np.abs(whole).max(axis=1) == pytest.approx(most, rel=1e-6), "the largest is kept"
    assert not found[3].any(), "zeros stay zeros"


def test_levels_are_those_that_were_published():
    np.testing.assert_allclose(nf4_levels(), PUBLISHED, rtol=0, atol=1e-6)


def test_every_weight_takes_the_nearest_of_the_levels(weights):
    found = np.asarray(round_nf4(jnp.asarray(weights)), np.float64)
    for part in groups(weights, 64):
        x = weights[part].astype(np.float64)
        scale = np.abs(x).max(axis=1)
        levels = scale[:, None] * np.array(PUBLISHED)
        gaps = np.abs(x[:, :, None] - levels[:, None, :])
        # Beside a midpoint both neighbours are as near, to the last digits.
        assert np.all(np.abs(x - found[part]) <= gaps.min(axis=2) + 1e-6 * scale[:, None])
    assert not found[3].any()


def channels(kernel, inputs):
    """[layers, *inputs, *outputs] -> [layers, outputs, inputs]."""
    rows = int(np.prod(kernel.shape[1 : 1 + inputs]))
    return np.asarray(kernel, np.float64).reshape(kernel.shape[0], rows, -1).transpose(0, 2, 1)


def test_a_model_is_rounded_by_output_channel_and_keeps_what_is_no_linear_layer():
    config = models.DecoderConfig.scratch(vocab_size=16, width=16, layers=2, heads=2)
    model, params = models.init(config, jax.random.key(0))
    # Channels of many sizes: a scale that is shared with another channel would show.
    sizes = jnp.exp(jax.random.normal(jax.random.key(1), (2, 2, 8, 16)))
    params["layers"]["attn"]["o_proj"]["kernel"] *= sizes
    found = quantize(model, params, "int8")
    for part, name, inputs in (("attn", "q_proj", 1), ("attn", "o_proj", 2), ("mlp", "up_proj", 1)):
        x, y = (channels(tree["layers"][part][name]["kernel"], inputs) for tree in (params, found))
        step = np.abs(x).max(axis=2, keepdims=True) / 127
        assert np.all(np.abs(x - y) <= step * (0.5 + 1e-4)) and np.any(x != y), name
        np.testing.assert_allclose(y / step, np.round(y / step), atol=1e-3)
    same = jax.tree.map(lambda x, y: bool((x == y).all()), params, found)
    assert same["embed"]["kernel"] and same["norm"]["scale"]
    assert not same["layers"]["mlp"]["down_proj"]["kernel"]


def test_weights_keep_their_type_and_their_place_on_a_mesh():
    mesh = make_mesh(fsdp=4, tensor=2)
    config = models.DecoderConfig.scratch(
        vocab_size=16, width=32, layers=1, heads=2, param_dtype="bfloat16"
    )
    model, params = models.init(config, jax.random.key(0), mesh=mesh)
    found = quantize(model, params, "nf4")
    alone = quantize(model, jax.device_put(params, jax.devices()[0]), "nf4")
    for x, y, one in zip(*map(jax.tree.leaves, (params, found, alone)), strict=True):
        assert (y.dtype, y.sharding) == (x.dtype, x.sharding)
        np.testing.assert_array_equal(np.asarray(y), np.asarray(one))
