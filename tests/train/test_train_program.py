# SPDX-License-Identifier: Apache-2.0
"""Memory and traffic of programs whose needs are known beforehand."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from unilogit_jax.sharding import make_mesh
from unilogit_jax.train.program import Traffic, memory_of, traffic_of

TURNS = 5


def compiled(body, spec, out, shape=(8, 16)):
    """A loop of TURNS turns of a collective over eight devices."""
    mesh = make_mesh(fsdp=8)

    def loop(x):
        return jax.lax.fori_loop(0, TURNS, lambda _, y: body(y), x)

    mapped = jax.shard_map(loop, mesh=mesh, in_specs=spec, out_specs=out, check_vma=False)
    x = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))
    return jax.jit(mapped).lower(x).compile()


def summed(x):
    return jax.lax.psum(x, "fsdp") / 8


def gathered(x):
    return jnp.tanh(jax.lax.all_gather(x, "fsdp", axis=0, tiled=True))[: len(x)]


def scattered(x):
    return jnp.tile(jnp.tanh(jax.lax.psum_scatter(x, "fsdp", tiled=True)), (8, 1))


def turned(x):
    return jnp.tanh(jax.lax.ppermute(x, "fsdp", [(i, (i + 1) % 8) for i in range(8)]))


@pytest.mark.parametrize(
    ("body", "spec", "shape", "kind", "size"),
    [
        (summed, P(), (8, 16), "all-reduce", 8 * 16 * 4),
        (gathered, P("fsdp"), (16, 4), "all-gather", 16 * 4 * 4),
        (scattered, P(), (8, 16), "reduce-scatter", 8 * 16 * 4),
        (turned, P("fsdp"), (16, 4), "collective-permute", 2 * 4 * 4),
    ],
)
def test_a_collective_in_a_loop_counts_once_per_turn_with_its_largest_array(
    body, spec, shape, kind, size
):
    text = compiled(body, spec, spec, shape).as_text()
    assert traffic_of(text) == [Traffic(kind, TURNS, TURNS * size)]


def test_a_program_without_collectives_has_no_traffic():
    assert traffic_of(jax.jit(jnp.sin).lower(jnp.ones(4)).compile().as_text()) == []


TPU = """
%all-reduce-scatter.3 (p: f32[8,4]) -> f32[2,4] {
  %p = f32[8,4]{1,0:T(8,128)} parameter(0)
  %all-reduce.1 = f32[8,4]{1,0:T(8,128)} all-reduce(%p), channel_id=7, replica_groups={{0,1,2,3}}
  ROOT %slice = f32[2,4]{1,0} dynamic-slice(%all-reduce.1), dynamic_slice_sizes={2,4}
}
%started (q: bf16[2,4]) -> bf16[8,4] {
  %q = bf16[2,4]{1,0} parameter(0)
  ROOT %all-gather.2 = bf16[8,4]{1,0} all-gather(%q), channel_id=3, PIECE
}
%ended (q: bf16[2,4]) -> bf16[8,4] {
  %q = bf16[2,4]{1,0} parameter(0)
  ROOT %all-gather.5 = bf16[8,4]{1,0} all-gather(%q), channel_id=3, PIECE
}
%body (t: (s32[], bf16[2,4])) -> (s32[], bf16[2,4]) {
  %late = bf16[64,4]{1,0} all-gather(%q), channel_id=3, PIECE
  %f = bf16[8,4]{1,0} fusion(%g), kind=kCustom, calls=%started
  %kernel = f32[2]{0} custom-call(%g), backend_config={"text":"{
"more": 1
}}, metadata={}
  %h = bf16[8,4]{1,0} fusion(%g), kind=kCustom, calls=%ended
}
%limit (t: (s32[], bf16[2,4])) -> pred[] {
  %constant.9 = s32[]{:T(128)} constant(6)
  ROOT %less = pred[] compare(%i, %constant.9), direction=LT
}
ENTRY %main (x: f32[8,4]) -> f32[2,4] {
  %all-reduce.2 = f32[]{:T(128)} all-reduce(%n), channel_id=7, replica_groups={{0,1,2,3}}
  %early = bf16[64,4]{1,0} all-gather(%q), channel_id=3, PIECE
  %while.1 = (s32[], bf16[2,4]) while(%init), condition=%limit, body=%body
  ROOT %r = f32[2,4]{1,0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.3
}
"""


def test_the_pieces_that_tpus_cut_a_collective_into_are_one():
    text = TPU.replace("PIECE", 'dimensions={0}, frontend_attributes={chain_id="0"}')
    assert traffic_of(text) == [
        Traffic("all-gather", 7, 6 * 8 * 4 * 2 + 64 * 4 * 2),
        Traffic("all-reduce", 1, 4),
        Traffic("reduce-scatter", 1, 8 * 4 * 4),
    ]


def test_memory_counts_a_donated_argument_once():
    x = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
    step = jax.jit(lambda a, b: a + b, donate_argnums=0)
    memory = memory_of(step.lower(x, x).compile())
    assert (memory.arguments, memory.outputs) == (2 * 2**22, 0)
    kept = memory_of(jax.jit(lambda a, b: a + b).lower(x, x).compile())
    assert (kept.arguments, kept.outputs) == (2 * 2**22, 2**22)
    assert kept.total - memory.total >= 2**22
