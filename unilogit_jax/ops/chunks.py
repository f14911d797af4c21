# SPDX-License-Identifier: Apache-2.0
"""The loop over chunks of the tokens that count; the others cost nothing but their place."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from unilogit_jax.ops.blocks import LocalHead, Plan
from unilogit_jax.ops.sweeps import Sums, sweep, sweep_back

Combine = Callable[[Sums], Sums]
"""Merges the sums of all devices that share a vocabulary; the identity on one."""

Phi = Callable[[Array, Any], tuple[Array, Array]]
"""(m, aux) -> (loss, dL/dm), token by token."""


class Need(NamedTuple):
    """Which gradients are wanted."""

    hidden: bool = True
    kernel: bool = True
    bias: bool = True


class Grads(NamedTuple):
    """Gradients of a scalar, float32; None where none is wanted."""

    hidden: Float[Array, "N D"] | None
    kernel: Float[Array, "rows cols"] | None
    bias: Float[Array, " columns"] | None


def find_stats(
    head: LocalHead,
    hidden: Float[Array, "N D"],
    labels: Int[Array, " N"],
    counts: Bool[Array, " N"],
    plan: Plan,
    *,
    extras: tuple[str, ...] = (),
    combine: Combine = lambda sums: sums,
) -> Sums:
    """Sums of every token that counts; zeros elsewhere. One matmul, no logits kept."""
    order, trips, last = _compact(counts, plan)

    def body(i: Any, found: Sums) -> Sums:
        rows, live = _rows(order, i, last, plan)
        h, y = _take(hidden, rows, live), jnp.where(live, _take(labels, rows, live), -1)
        sums, _ = sweep(head, h, y, plan._replace(keep=False), extras)
        return jax.tree.map(lambda all_, part: _put(all_, rows, part), found, combine(sums))

    return _loop(trips, plan, len(hidden), body, _no_sums(head, hidden, plan, extras))


def find_grads(
    head: LocalHead,
    hidden: Float[Array, "N D"],
    labels: Int[Array, " N"],
    slopes: Float[Array, " N"],
    others: Float[Array, " N"],
    plan: Plan,
    need: Need,
) -> Grads:
    """Gradients of sum slope m from known slopes: the logits are computed again, block by block."""
    order, trips, last = _compact(slopes != 0.0, plan)

    def body(i: Any, grads: Grads) -> Grads:
        rows, live = _rows(order, i, last, plan)
        taken = [_take(x, rows, live) for x in (hidden, others, slopes)]
        y = jnp.where(live, _take(labels, rows, live), -1)
        return _add_chunk(head, taken[0], y, taken[1], taken[2], None, rows, plan, grads)

    return _loop(trips, plan, len(hidden), body, _no_grads(head, hidden, need))


def find_loss_and_grads(
    head: LocalHead,
    hidden: Float[Array, "N D"],
    labels: Int[Array, " N"],
    weights: Float[Array, " N"],
    aux: Any,
    phi: Phi,
    plan: Plan,
    need: Need,
    *,
    extras: tuple[str, ...] = (),
    combine: Combine = lambda sums: sums,
) -> tuple[Float[Array, ""], Sums, Grads]:
    """Sum weight phi(m), and its gradients, in one pass over the tokens that count."""
    order, trips, last = _compact(weights != 0.0, plan)

    def body(i: Any, carry: Any) -> Any:
        total, found, grads = carry
        rows, live = _rows(order, i, last, plan)
        h, weight = _take(hidden, rows, live), _take(weights, rows, live)
        y = jnp.where(live, _take(labels, rows, live), -1)
        sums, kept = sweep(head, h, y, plan, extras)
        sums = combine(sums)
        m = jnp.where(live, sums.label - sums.others, 0.0)
        loss, slope = phi(m, jax.tree.map(lambda x: _take(x, rows, live), aux))
        slope = jnp.where(live, weight * slope, 0.0)
        total = total + jnp.sum(jnp.where(live, weight * loss, 0.0))
        grads = _add_chunk(head, h, y, sums.others, slope, kept, rows, plan, grads)
        found = jax.tree.map(lambda all_, part: _put(all_, rows, part), found, sums)
        return total, found, grads

    empty = _no_sums(head, hidden, plan, extras)
    start = (jnp.float32(0.0), empty, _no_grads(head, hidden, need))
    return _loop(trips, plan, len(hidden), body, start)


def _add_chunk(
    head: LocalHead,
    hidden: Float[Array, "chunk D"],
    labels: Int[Array, " chunk"],
    others: Float[Array, " chunk"],
    slopes: Float[Array, " chunk"],
    kept: Float[Array, "chunk all"] | None,
    rows: Int[Array, " chunk"],
    plan: Plan,
    grads: Grads,
) -> Grads:
    into_hidden, (kernel, bias) = sweep_back(
        head,
        hidden,
        labels,
        others,
        slopes,
        plan,
        kept=kept,
        grads=(grads.kernel, grads.bias),
        need_hidden=grads.hidden is not None,
    )
    if grads.hidden is not None and into_hidden is not None:
        grads = grads._replace(hidden=_put(grads.hidden, rows, into_hidden))
    return grads._replace(kernel=kernel, bias=bias)


def _no_sums(
    head: LocalHead, hidden: Float[Array, "N D"], plan: Plan, extras: tuple[str, ...]
) -> Sums:
    """Zeros for every token, of the sums that a sweep finds."""
    one = jax.eval_shape(
        lambda h, y: sweep(head, h, y, plan._replace(keep=False), extras)[0],
        jax.ShapeDtypeStruct((1, hidden.shape[1]), hidden.dtype),
        jax.ShapeDtypeStruct((1,), jnp.int32),
    )
    return jax.tree.map(lambda x: jnp.zeros(len(hidden), x.dtype), one)


def _no_grads(head: LocalHead, hidden: Float[Array, "N D"], need: Need) -> Grads:
    def zeros(x: Array | None, wanted: bool) -> Array | None:
        return jnp.zeros(x.shape, jnp.float32) if wanted and x is not None else None

    return Grads(
        zeros(hidden, need.hidden), zeros(head.kernel, need.kernel), zeros(head.bias, need.bias)
    )


def _compact(counts: Bool[Array, " N"], plan: Plan) -> tuple[Int[Array, " all"], Any, Any]:
    """Places of the tokens, those that count first; the number of chunks; the number of tokens."""
    order = jnp.argsort(~counts, stable=True).astype(jnp.int32)
    missing = -len(counts) % plan.chunk
    # A place behind the last token: nothing is read there, and nothing written.
    order = jnp.pad(order, (0, missing), constant_values=len(counts))
    last = jnp.sum(counts, dtype=jnp.int32)
    return order, -(-last // plan.chunk), last


def _rows(
    order: Int[Array, " all"], i: Any, last: Any, plan: Plan
) -> tuple[Int[Array, " chunk"], Bool[Array, " chunk"]]:
    rows = jax.lax.dynamic_slice_in_dim(order, i * plan.chunk, plan.chunk)
    return rows, i * plan.chunk + jnp.arange(plan.chunk) < last


def _take(
    x: Shaped[Array, "N ..."], rows: Int[Array, " chunk"], live: Bool[Array, " chunk"]
) -> Shaped[Array, "chunk ..."]:
    """Rows of x, zeros for those that do not count, whatever x holds there."""
    taken = jnp.take(x, rows, axis=0, mode="fill", fill_value=0)
    return jnp.where(live.reshape(-1, *(1,) * (x.ndim - 1)), taken, jnp.zeros((), x.dtype))


def _put(all_: Array, rows: Int[Array, " chunk"], part: Array) -> Array:
    return all_.at[rows].set(part, mode="drop", unique_indices=True)


def _loop(trips: Any, plan: Plan, tokens: int, body: Callable[[Any, Any], Any], start: Any) -> Any:
    """The chunks one after the other; a single one needs no loop."""
    return body(0, start) if tokens <= plan.chunk else jax.lax.fori_loop(0, trips, body, start)
