# SPDX-License-Identifier: Apache-2.0
"""The fused head and its divergences, compiled ahead of time for four v5e chips."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from unilogit_jax.ops import (
    Divergence,
    HeadSharding,
    Teacher,
    TopK,
    divergence_loss,
    head_loss,
    label_log_odds,
    top_tokens,
)
from unilogit_jax.types import Head

ROWS, LENGTH, WIDTH, VOCAB, STORED = 8, 1024, 2048, 128256, 8


def cross_entropy(m, aux):
    del aux
    return jax.nn.softplus(-m), -jax.nn.sigmoid(-m)


def losses(sharding):
    """Name -> loss of (hidden, kernel, reference's hidden and kernel, labels, weights)."""

    def plain(hidden, kernel, _, __, labels, weights):
        return head_loss(hidden, kernel, labels, weights, cross_entropy, sharding=sharding)[0]

    def later(hidden, kernel, _, __, labels, weights):
        stats = label_log_odds(hidden, kernel, labels, weights, sharding=sharding)
        return jnp.sum(jnp.square(stats.log_odds))

    def compared(hidden, kernel, ref_hidden, ref_kernel, labels, weights):
        teacher = Teacher(hidden=ref_hidden, head=ref_kernel)
        undial = Divergence(direction="cross_entropy", beta=10.0)
        args = (hidden, kernel, teacher, labels, weights, undial)
        return divergence_loss(*args, sharding=sharding)[0]

    def stored(hidden, kernel, ref_hidden, ref_kernel, labels, weights):
        ref = (ref_hidden, Head(kernel=ref_kernel), labels, weights)
        tokens = top_tokens(*ref, k=STORED, sharding=sharding)
        stats = label_log_odds(*ref, picks=tokens, sharding=sharding)
        teacher = TopK(
            tokens=tokens,
            logprobs=stats.pick_logprobs,
            label_logprob=-jax.nn.softplus(-stats.log_odds),
            tail_logprob=stats.tail_logprob,
        )
        args = (hidden, kernel, teacher, labels, weights, Divergence(direction="anchored"))
        return divergence_loss(*args, sharding=sharding)[0]

    return {f.__name__: f for f in (plain, later, compared, stored)}


@pytest.mark.parametrize("name", ["plain", "later", "compared", "stored"])
def test_heads_compile_for_chips_without_an_array_of_all_logits(mesh, name):
    rows, kernel = P("fsdp"), P("tensor", "fsdp")
    sharding = HeadSharding(mesh=mesh, rows=("fsdp",), vocab="tensor", embed="fsdp")
    shapes = [((ROWS, LENGTH, WIDTH), "bfloat16", rows), ((VOCAB, WIDTH), "bfloat16", kernel)] * 2
    shapes += [((ROWS, LENGTH), "int32", rows), ((ROWS, LENGTH), "float32", rows)]
    args = [
        jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))
        for shape, dtype, spec in shapes
    ]
    out = (NamedSharding(mesh, rows), NamedSharding(mesh, kernel))
    gradient = jax.grad(losses(sharding)[name], argnums=(0, 1))
    memory = jax.jit(gradient, out_shardings=out).lower(*args).compile().memory_analysis()
    logits = ROWS // 2 * LENGTH * VOCAB // 2 * 4
    # The head of the other chip's width, its gradient in float32, and at most 288 MiB of logits.
    heads = 2 if name in ("compared", "stored") else 1
    held = VOCAB // 2 * WIDTH * (2 * heads + 4)
    assert memory.temp_size_in_bytes <= 1.25 * (held + 288 * 2**20) < logits + held
