# SPDX-License-Identifier: Apache-2.0
"""Two sweeps over the vocabulary for a chunk of tokens: to the log-odds, and back to gradients."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from unilogit_jax.ops.blocks import (
    Block,
    LocalHead,
    Plan,
    add_to_block,
    block_again,
    block_at,
    count_blocks,
    kernel_block,
)

EXTRAS = ("hit", "logit_mean", "logprob_moments")
"""What a sweep can find besides the log-odds."""


class Sums(NamedTuple):
    """What is known of a chunk's logits after some blocks; sums are relative to `top`.

    The label is left out of everything but `label` and `logit_sum`.
    """

    label: Float[Array, "*chunk"]
    """The label's logit; 0 before its block."""
    top: Float[Array, "*chunk"]
    """The largest other logit."""
    total: Float[Array, "*chunk"]
    """sum exp(z - top)."""
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
        """The logsumexp of the alternatives; -inf if there are none."""
        return jnp.where(self.total > 0, self.top + jnp.log(self.total), -jnp.inf)


def sweep(
    head: LocalHead,
    hidden: Float[Array, "chunk D"],
    labels: Int[Array, " chunk"],
    plan: Plan,
    extras: tuple[str, ...] = (),
) -> tuple[Sums, Float[Array, "chunk all"] | None]:
    """Sums over all columns, and the logits themselves if the plan keeps them.

    Args:
      head: the columns here.
      hidden: hidden states.
      labels: vocabulary index of each label; negative: none.
      plan: sizes of blocks, and whether logits are kept.
      extras: some of EXTRAS.

    """
    count = count_blocks(head, plan)
    rows = hidden.shape[0]
    kept = jnp.zeros((rows, count * plan.block), jnp.float32) if plan.keep else None

    def body(carry: Any, number: Any) -> tuple[Any, None]:
        sums, kept = carry
        block = block_at(head, hidden, number, plan)
        if kept is not None:
            at = number * plan.block
            kept = jax.lax.dynamic_update_slice_in_dim(kept, block.logits, at, axis=1)
        return (_add(sums, block, labels), kept), None

    start = (_empty(rows, extras), kept)
    if count == 1:
        return body(start, jnp.int32(0))[0]
    return jax.lax.scan(body, start, jnp.arange(count, dtype=jnp.int32))[0]


def sweep_back(
    head: LocalHead,
    hidden: Float[Array, "chunk D"],
    labels: Int[Array, " chunk"],
    others: Float[Array, " chunk"],
    slope: Float[Array, " chunk"],
    plan: Plan,
    *,
    kept: Float[Array, "chunk all"] | None,
    grads: tuple[Array | None, Array | None],
    need_hidden: bool,
) -> tuple[Float[Array, "chunk D"] | None, tuple[Array | None, Array | None]]:
    """Gradients of sum slope m: slope (e_y - q) through the head, q_j = exp(z_j - others).

    The label's entry is the slope itself; nothing is subtracted.

    Args:
      head: the columns here.
      hidden: hidden states.
      labels: vocabulary index of each label; negative: none.
      others: logsumexp of the alternatives over the whole vocabulary.
      slope: dL/dm, 0 at tokens that do not count.
      plan: sizes of blocks.
      kept: the logits, if they were kept; else they are computed again.
      grads: sums of gradients of kernel and bias so far, float32; None where none is wanted.
      need_hidden: whether the gradient of the hidden states is wanted.

    Returns:
      Gradient of the hidden states (from these columns), and the new sums.

    """
    count = count_blocks(head, plan)
    into_hidden = jnp.zeros(hidden.shape, jnp.float32) if need_hidden else None

    def body(carry: Any, number: Any) -> tuple[Any, None]:
        into_hidden, (into_kernel, into_bias) = carry
        if kept is None:
            block = block_at(head, hidden, number, plan)
        else:
            block = block_again(head, kept, number, plan)
        dz = _slopes(block, labels, others, slope, head.softcap)
        low = dz.astype(hidden.dtype)
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
        return (into_hidden, (into_kernel, into_bias)), None

    start = (into_hidden, grads)
    if count == 1:
        return body(start, jnp.int32(0))[0]
    return jax.lax.scan(body, start, jnp.arange(count, dtype=jnp.int32))[0]


def _product(head: LocalHead, spec: str, a: Array, b: Array) -> Array:
    return jnp.einsum(spec, a, b, precision=head.precision, preferred_element_type=jnp.float32)


def _slopes(
    block: Block,
    labels: Int[Array, " chunk"],
    others: Float[Array, " chunk"],
    slope: Float[Array, " chunk"],
    softcap: float | None,
) -> Float[Array, "chunk block"]:
    """dL/dz of a block, before the cap."""
    at_label = block.indices == labels[:, None]
    # exp(-inf - -inf) is NaN where no alternative is possible; such a token has no q.
    base = jnp.where(others > -jnp.inf, others, 0.0)[:, None]
    q = jnp.exp(jnp.where(at_label, -jnp.inf, block.logits) - base)
    dz = slope[:, None] * jnp.where(at_label, 1.0, -q)
    if softcap is not None:
        dz = dz * (1.0 - jnp.square(block.logits / softcap))
    # Selected last: padding columns hold -inf, and 0 * inf is NaN.
    return jnp.where(block.fresh & (slope != 0.0)[:, None], dz, 0.0)


def _empty(rows: int, extras: tuple[str, ...]) -> Sums:
    zeros = jnp.zeros(rows, jnp.float32)
    moments = zeros if "logprob_moments" in extras else None
    return Sums(
        label=zeros,
        top=jnp.full(rows, -jnp.inf),
        total=zeros,
        top_index=jnp.full(rows, _FAR, jnp.int32) if "hit" in extras else None,
        logit_sum=zeros if "logit_mean" in extras else None,
        first=moments,
        second=moments,
    )


_FAR = 2**31 - 1


def _add(sums: Sums, block: Block, labels: Int[Array, " chunk"]) -> Sums:
    at_label = (block.indices == labels[:, None]) & block.fresh
    z = jnp.where(at_label, -jnp.inf, block.logits)
    found = Sums(
        label=jnp.sum(jnp.where(at_label, block.logits, 0.0), axis=1),
        top=jnp.max(z, axis=1),
        total=jnp.zeros_like(sums.total),
    )
    base = jnp.where(found.top > -jnp.inf, found.top, 0.0)[:, None]
    shares = jnp.exp(z - base)
    found = found._replace(total=jnp.sum(shares, axis=1))
    if sums.top_index is not None:
        first = jnp.where(z == found.top[:, None], block.indices, _FAR)
        found = found._replace(top_index=jnp.min(first, axis=1))
    if sums.logit_sum is not None:
        all_ = jnp.sum(jnp.where(block.fresh, block.logits, 0.0), axis=1)
        found = found._replace(logit_sum=all_)
    if sums.first is not None:
        back = jnp.where(shares > 0, z - base, 0.0)
        found = found._replace(
            first=jnp.sum(shares * back, axis=1), second=jnp.sum(shares * jnp.square(back), axis=1)
        )
    return merge(sums, found)


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
    if a.top_index is not None and b.top_index is not None:
        first = jnp.where(a.top == top, a.top_index, _FAR)
        second = jnp.where(b.top == top, b.top_index, _FAR)
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
