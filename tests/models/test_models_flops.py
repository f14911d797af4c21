# SPDX-License-Identifier: Apache-2.0
"""Counted operations against those of the matmuls that JAX really traces."""

import math

import jax
import jax.numpy as jnp
import pytest

from unilogit_jax import models
from unilogit_jax.models.flops import update_flops

LENGTH, ROWS = 12, 3
SIZES = {"vocab_size": 40, "width": 16, "layers": 4, "heads": 4}
MODELS = {
    "llama": models.DecoderConfig.scratch(**SIZES),
    "grouped": models.DecoderConfig.scratch(**SIZES, kv_heads=2, head_dim=6, tie_embeddings=False),
    "plain_mlp": models.DecoderConfig.scratch(
        **SIZES, gated=False, norm="layer", qkv_bias=True, block="parallel"
    ),
    "local": models.DecoderConfig.scratch(
        **SIZES, window=5, local_layers=(True, False, True, False)
    ),
}


def dots(jaxpr, times=1):
    """Operations of all matmuls of a traced function, loops multiplied out."""
    total = 0
    for eqn in jaxpr.eqns:
        inner = times * eqn.params.get("length", 1) if eqn.primitive.name == "scan" else times
        for value in eqn.params.values():
            for part in value if isinstance(value, tuple | list) else [value]:
                if hasattr(part, "eqns") or hasattr(part, "jaxpr"):
                    total += dots(getattr(part, "jaxpr", part), inner)
        if eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            left, out = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
            total += times * 2 * math.prod(out) * math.prod(left[i] for i in contracted)
    return total


@pytest.mark.parametrize("name", MODELS)
def test_operations_are_those_of_the_traced_matmuls_less_the_pairs_that_are_masked(name):
    config = MODELS[name]
    model = models.Decoder(config)
    tokens = jnp.zeros((ROWS, LENGTH), jnp.int32)

    def logits(params):
        return model.apply({"params": params}, tokens).logits()

    traced = dots(jax.make_jaxpr(logits)(models.param_shapes(model)).jaxpr)
    seen = 0
    for layer in range(config.layers):
        window = config.window if config.is_local(layer) else LENGTH
        seen += ROWS * sum(min(i + 1, window) for i in range(LENGTH))
    masked = config.layers * ROWS * LENGTH**2 - seen
    wanted = traced - 4 * config.heads * config.head_dim * masked
    lengths = [LENGTH] * ROWS
    assert update_flops(config, lengths, ROWS * LENGTH) == 3 * wanted
    assert update_flops(config, lengths, ROWS * LENGTH, frozen=True) == 2 * wanted


def test_only_supervised_tokens_cost_a_head():
    config = MODELS["llama"]
    difference = update_flops(config, [5], 4) - update_flops(config, [5], 1)
    assert difference == 3 * 3 * 2 * config.vocab_size * config.width
