# SPDX-License-Identifier: Apache-2.0
"""What a sweep over the vocabulary finds in its blocks, and the sweep back to gradients."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from unilogit_jax.ops.blocks import (
    Block,
    LocalHead,
    Plan,
    add_to_block,
    kernel_block,
    over_blocks,
)

EXTRAS = ("hit", "logit_mean", "logprob_moments")
"""What a sweep can find besides the log-odds."""


class Sums(NamedTuple):
    """What is known of a chunk's logits after some blocks; sums are relative to `top`.

    Label and picks are left out of everything but their own fields and `logit_sum`.
    """

    label: Float[Array, "*chunk"]
    """The label's logit; 0 before its block."""
    top: Float[Array, "*chunk"]
    """The largest other logit."""
    total: Float[Array, "*chunk"]
    """sum exp(z - top)."""
    picks: Float[Array, "*chunk k"] | None = None
    """Logits of given tokens; 0 before their block."""
    top_index: Int[Array, "*chunk"] | None = None
    """The first column that holds the largest other logit."""
    logit_sum: Float[Array, "*chunk"] | None = None
    """sum z, over all columns."""
    first: Float[Array, "*chunk"] | None = None
    """sum exp(z - top) (z - top)."""
    second: Float[Array, "*chunk"] | None = None
    """sum exp(z - top) (z - top)^2."""

    @property
    def others(self) -> Float[Array, "*chunk"]:
        """The logsumexp of what is not left out; -inf if there is nothing."""
        return jnp.where(self.total > 0, self.top + jnp.log(self.total), -jnp.inf)


class Grads(NamedTuple):
    """Gradients of a scalar, float32; None where none is wanted."""

    hidden: Float[Array, "N D"] | None
    kernel: Float[Array, "rows cols"] | None
    bias: Float[Array, " columns"] | None


class Places(NamedTuple):
    """Where the labels and picks of a chunk are in a block."""

    at_label: Bool[Array, "chunk block"]
    columns: Int[Array, "chunk k"] | None = None
    """A pick's column in the block; behind the last one if it is not there."""


def places(
    block: Block, labels: Int[Array, " chunk"], picks: Int[Array, "chunk k"] | None
) -> Places:
    """Finds labels and picks; negative ones are nowhere, a pick must differ from the label."""
    at_label = (block.indices == labels[:, None]) & block.fresh
    if picks is None:
        return Places(at_label)
    size = block.indices.shape[1]
    columns = picks - block.indices[0, 0]
    inside = (columns >= 0) & (columns < size) & (picks >= 0)
    inside &= block.fresh[0, jnp.where(inside, columns, 0)]
    return Places(at_label, jnp.where(inside, columns, size))


def sums_of(
    block: Block,
    labels: Int[Array, " chunk"],
    picks: Int[Array, "chunk k"] | None = None,
    extras: tuple[str, ...] = (),
) -> Sums:
    """The sums over one block."""
    where = places(block, labels, picks)
    z = left_out(block, where)
    top = jnp.max(z, axis=1)
    base = jnp.where(top > -jnp.inf, top, 0.0)[:, None]
    shares = jnp.exp(z - base)
    found = Sums(
        label=jnp.sum(jnp.where(where.at_label, block.logits, 0.0), axis=1),
        top=top,
        total=jnp.sum(shares, axis=1),
    )
    if where.columns is not None:
        found = found._replace(picks=_at_columns(block.logits, where.columns))
    if "hit" in extras:
        first = jnp.where(z == top[:, None], block.indices, FAR)
        found = found._replace(top_index=jnp.min(first, axis=1))
    if "logit_mean" in extras:
        all_ = jnp.sum(jnp.where(block.fresh, block.logits, 0.0), axis=1)
        found = found._replace(logit_sum=all_)
    if "logprob_moments" in extras:
        back = jnp.where(shares > 0, z - base, 0.0)
        found = found._replace(
            first=jnp.sum(shares * back, axis=1), second=jnp.sum(shares * jnp.square(back), axis=1)
        )
    return found


def left_out(block: Block, where: Places) -> Float[Array, "chunk block"]:
    """The logits, -inf at labels and picks."""
    z = jnp.where(where.at_label, -jnp.inf, block.logits)
    return z if where.columns is None else put_at_columns(z, where.columns, -jnp.inf)


def put_at_columns(z: Array, columns: Int[Array, "chunk k"], values: Any) -> Array:
    """Puts values at a row's columns; those behind the last one are dropped."""
    return z.at[jnp.arange(len(z))[:, None], columns].set(values, mode="drop")


def _at_columns(z: Array, columns: Int[Array, "chunk k"]) -> Float[Array, "chunk k"]:
    return z.at[jnp.arange(len(z))[:, None], columns].get(mode="fill", fill_value=0.0)


def no_sums(rows: int, *, picks: int | None = None, extras: tuple[str, ...] = ()) -> Sums:
    """The sums over no block."""
    zeros = jnp.zeros(rows, jnp.float32)
    moments = zeros if "logprob_moments" in extras else None
    return Sums(
        label=zeros,
        top=jnp.full(rows, -jnp.inf),
        total=zeros,
        picks=None if picks is None else jnp.zeros((rows, picks), jnp.float32),
        top_index=jnp.full(rows, FAR, jnp.int32) if "hit" in extras else None,
        logit_sum=zeros if "logit_mean" in extras else None,
        first=moments,
        second=moments,
    )


FAR = 2**31 - 1
"""The column of nothing."""


def merge(a: Sums, b: Sums) -> Sums:
    """Sums over the columns of both; the order does not matter beyond rounding."""
    top = jnp.maximum(a.top, b.top)
    moved = [jnp.where(x.top > -jnp.inf, x.top - top, -jnp.inf) for x in (a, b)]
    scales = [jnp.exp(d) for d in moved]
    merged = Sums(
        label=a.label + b.label,
        top=top,
        total=a.total * scales[0] + b.total * scales[1],
    )
    if a.picks is not None and b.picks is not None:
        merged = merged._replace(picks=a.picks + b.picks)
    if a.top_index is not None and b.top_index is not None:
        first = jnp.where(a.top == top, a.top_index, FAR)
        second = jnp.where(b.top == top, b.top_index, FAR)
        merged = merged._replace(top_index=jnp.minimum(first, second))
    if a.logit_sum is not None and b.logit_sum is not None:
        merged = merged._replace(logit_sum=a.logit_sum + b.logit_sum)
    if a.first is not None and b.first is not None:
        parts = [_moved(x, d, s) for x, d, s in zip((a, b), moved, scales, strict=True)]
        merged = merged._replace(first=parts[0][0] + parts[1][0], second=parts[0][1] + parts[1][1])
    return merged


def _moved(x: Sums, by: Array, scale: Array) -> tuple[Array, Array]:
    """First and second moment relative to a larger top."""
    assert x.first is not None and x.second is not None
    by = jnp.where(scale > 0, by, 0.0)
    first = scale * (x.first + by * x.total)
    return first, scale * (x.second + 2.0 * by * x.first + jnp.square(by) * x.total)


def sweep_back(
    head: LocalHead,
    hidden: Float[Array, "chunk D"],
    slopes_at: Callable[[Any], Float[Array, "chunk block"]],
    plan: Plan,
    grads: Grads,
) -> Grads:
    """Gradients of a chunk, from dL/dz of every block before bias and cap (see `through_cap`).

    Args:
      head: the columns here.
      hidden: hidden states.
      slopes_at: number of a block -> dL/dz.
      plan: sizes of blocks.
      grads: of the hidden states: zeros of the chunk; of kernel and bias: the sums so far.

    Returns:
      The gradient of the hidden states (from these columns), and the new sums.

    """

    def step(grads: Grads, number: Any) -> Grads:
        dz = slopes_at(number)
        low = dz.astype(hidden.dtype)
        into_hidden, into_kernel, into_bias = grads
        if into_hidden is not None:
            kernel = kernel_block(head, number, plan).astype(hidden.dtype)
            spec = "cv,dv->cd" if head.transposed else "cv,vd->cd"
            into_hidden = into_hidden + _product(head, spec, low, kernel)
        if into_kernel is not None:
            spec = "cd,cv->dv" if head.transposed else "cd,cv->vd"
            part = _product(head, spec, hidden, low)
            into_kernel = add_to_block(into_kernel, part, head, number, plan)
        if into_bias is not None:
            into_bias = add_to_block(into_bias, jnp.sum(dz, axis=0), head, number, plan)
        return Grads(into_hidden, into_kernel, into_bias)

    return over_blocks(head, plan, step, grads)


def _product(head: LocalHead, spec: str, a: Array, b: Array) -> Array:
    return jnp.einsum(spec, a, b, precision=head.precision, preferred_element_type=jnp.float32)


def through_cap(
    dz: Float[Array, "chunk block"], block: Block, head: LocalHead, live: Bool[Array, " chunk"]
) -> Float[Array, "chunk block"]:
    """dL/dz before the cap; exactly 0 at columns and tokens that do not count."""
    if head.softcap is not None:
        dz = dz * (1.0 - jnp.square(block.logits / head.softcap))
    # Selected last: padding columns hold -inf, and 0 * inf is NaN.
    return jnp.where(block.fresh & live[:, None], dz, 0.0)


def shares(z: Float[Array, "chunk block"], total: Float[Array, " chunk"]) -> Array:
    """exp(z - total); 0 where no alternative is possible, for exp(-inf - -inf) is NaN."""
    return jnp.exp(z - jnp.where(total > -jnp.inf, total, 0.0)[:, None])
