# SPDX-License-Identifier: Apache-2.0
"""A head cut into blocks of vocabulary columns, and how large chunks and blocks are."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

CHUNK = {True: 512, False: 1024}
"""Tokens per chunk where logits are kept and where they are not: tokens that do not count are saved
in whole chunks, and every chunk passes over the gradient of the whole kernel once."""

LONGEST_ROW = min(CHUNK.values())
"""Rows up to this length fit into a chunk, whatever the plan, unless there is a second head."""

BLOCK = 2048
"""Columns per block."""

BUDGET = 288 * 2**20
"""Bytes that kept logits may take; beyond it they are computed twice and never kept."""


class Plan(NamedTuple):
    """How the logits are cut up: chunks of tokens, blocks of columns, and whether they are kept.

    Kept logits of a chunk cost chunk x V x 4 bytes and save a fourth matmul.
    """

    chunk: int
    block: int
    keep: bool


def make_plan(
    tokens: int, columns: int, *, heads: int = 1, budget: int = BUDGET, keep: bool | None = None
) -> Plan:
    """The plan for a head on one device, or for a model's and its teacher's.

    Args:
      tokens: rows of hidden states on the device, those that do not count included.
      columns: vocabulary columns on the device.
      heads: how many heads there are, each with logits of its own; chunks shrink accordingly.
      budget: bytes that kept logits may take.
      keep: whether logits are kept; None: where those of a chunk fit the budget.

    Example:
      >>> make_plan(2048, 128256)
      Plan(chunk=512, block=2048, keep=True)
      >>> make_plan(2048, 128256, budget=50 * 2**20)
      Plan(chunk=1024, block=2048, keep=False)

    """
    if keep is None:
        keep = 4 * columns * heads * min(CHUNK[True] // heads, tokens) <= budget
    return Plan(max(1, min(CHUNK[keep] // heads, tokens)), min(BLOCK, columns), keep)


class LocalHead(NamedTuple):
    """The columns of a head that one device works on."""

    kernel: Float[Array, "rows cols"]
    """[columns, D], or [D, columns] if `transposed`."""
    bias: Float[Array, " columns"] | None
    first: Any
    """Vocabulary index of the first column."""
    vocab_size: int
    """Columns from this index on are padding."""
    transposed: bool = False
    softcap: float | None = None
    precision: Any = None

    @property
    def columns(self) -> int:
        """Number of columns here."""
        return self.kernel.shape[1 if self.transposed else 0]


class Block(NamedTuple):
    """Logits of a chunk of tokens and a block of columns."""

    logits: Float[Array, "chunk block"]
    """float32; -inf in columns that are padding or were part of the block before."""
    indices: Int[Array, "1 block"]
    """Vocabulary indices of the columns."""
    fresh: Bool[Array, "1 block"]
    """Columns that count."""


def block_at(head: LocalHead, hidden: Float[Array, "chunk D"], number: Any, plan: Plan) -> Block:
    """Computes the logits of one block.

    The last block ends with the last column, so it may begin within the one before; what that one
    had already does not count again.
    """
    start = _start(head, number, plan)
    indices, fresh = _columns(head, number, start, plan)
    spec = "cd,dv->cv" if head.transposed else "cd,vd->cv"
    z = jnp.einsum(
        spec,
        hidden,
        kernel_block(head, number, plan).astype(hidden.dtype),
        precision=head.precision,
        preferred_element_type=jnp.float32,
    )
    if head.bias is not None:
        bias = jax.lax.dynamic_slice_in_dim(head.bias, start, plan.block)
        z = z + bias.astype(jnp.float32)[None, :]
    if head.softcap is not None:
        z = head.softcap * jnp.tanh(z / head.softcap)
    return Block(jnp.where(fresh, z, -jnp.inf), indices, fresh)


def make_room(head: LocalHead, rows: int, plan: Plan) -> Float[Array, "chunk all"] | None:
    """Where the logits of a chunk are kept; None if they are not."""
    columns = count_blocks(head, plan) * plan.block
    return jnp.zeros((rows, columns), jnp.float32) if plan.keep else None


def keep_block(
    kept: Float[Array, "chunk all"] | None, block: Block, number: Any, plan: Plan
) -> Float[Array, "chunk all"] | None:
    """Keeps a block's logits, if there is room."""
    if kept is None:
        return None
    return jax.lax.dynamic_update_slice_in_dim(kept, block.logits, number * plan.block, axis=1)


def block_again(
    head: LocalHead,
    hidden: Float[Array, "chunk D"],
    number: Any,
    plan: Plan,
    kept: Float[Array, "chunk all"] | None,
) -> Block:
    """A block once more: as it was kept, or computed anew."""
    if kept is None:
        return block_at(head, hidden, number, plan)
    start = _start(head, number, plan)
    z = jax.lax.dynamic_slice_in_dim(kept, number * plan.block, plan.block, axis=1)
    return Block(z, *_columns(head, number, start, plan))


def over_blocks(head: LocalHead, plan: Plan, step: Callable[[Any, Any], Any], carry: Any) -> Any:
    """`step(carry, number)` for every block; a single one needs no loop."""
    count = count_blocks(head, plan)
    if count == 1:
        return step(carry, jnp.int32(0))
    numbers = jnp.arange(count, dtype=jnp.int32)
    return jax.lax.scan(lambda carry, number: (step(carry, number), None), carry, numbers)[0]


def kernel_block(head: LocalHead, number: Any, plan: Plan) -> Float[Array, "rows cols"]:
    """The part of the kernel that a block's logits are made with."""
    axis = 1 if head.transposed else 0
    start = _start(head, number, plan)
    return jax.lax.dynamic_slice_in_dim(head.kernel, start, plan.block, axis=axis)


def add_to_block(total: Array, part: Array, head: LocalHead, number: Any, plan: Plan) -> Array:
    """Adds a block's gradient to that of all columns (kernel or bias), in place under jit."""
    axis = 1 if head.transposed and total.ndim == 2 else 0
    start = _start(head, number, plan)
    before = jax.lax.dynamic_slice_in_dim(total, start, plan.block, axis=axis)
    return jax.lax.dynamic_update_slice_in_dim(total, before + part, start, axis=axis)


def count_blocks(head: LocalHead, plan: Plan) -> int:
    """Number of blocks that cover the columns."""
    return -(-head.columns // plan.block)


def _start(head: LocalHead, number: Any, plan: Plan) -> Any:
    return jnp.minimum(number * plan.block, head.columns - plan.block)


def _columns(
    head: LocalHead, number: Any, start: Any, plan: Plan
) -> tuple[Int[Array, "1 block"], Bool[Array, "1 block"]]:
    local = start + jnp.arange(plan.block, dtype=jnp.int32)[None, :]
    indices = head.first + local
    return indices, (local >= number * plan.block) & (indices < head.vocab_size)
