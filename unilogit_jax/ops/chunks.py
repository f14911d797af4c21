# SPDX-License-Identifier: Apache-2.0
"""The loop over chunks of the tokens that count; the others cost nothing but their place."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from unilogit_jax.ops.blocks import LocalHead, Plan
from unilogit_jax.ops.sweeps import Grads

Merge = Callable[[Any, Any], Any]
Combine = Callable[[Any, Merge], Any]
"""Merges what all devices that share a vocabulary found; the identity on one."""


class Rows(NamedTuple):
    """What a sweep needs of each token."""

    hidden: Float[Array, "chunk D"]
    labels: Int[Array, " chunk"]
    picks: Int[Array, "chunk k"] | None = None
    ref_hidden: Float[Array, "chunk E"] | None = None
    logit_tau: Float[Array, " chunk"] | None = None


@runtime_checkable
class Work(Protocol):
    """What is done with a chunk of tokens. Results are trees with the tokens' axis in front."""

    @property
    def head(self) -> LocalHead:
        """The head that gradients belong to."""
        ...

    def look(self, rows: Rows, plan: Plan) -> tuple[Any, Any]:
        """One sweep: what is found of each token, and the logits if the plan keeps them."""
        ...

    def parts(self, found: Any) -> Any:
        """The part of `found` that has a gradient."""
        ...

    def back(
        self, rows: Rows, found: Any, slopes: Any, plan: Plan, kept: Any, grads: Grads
    ) -> Grads:
        """The sweep back, from slopes with respect to the parts."""
        ...


class Need(NamedTuple):
    """Which gradients are wanted."""

    hidden: bool = True
    kernel: bool = True
    bias: bool = True


def find(work: Work, rows: Rows, counts: Bool[Array, " N"], plan: Plan) -> Any:
    """What a sweep finds of every token that counts; zeros elsewhere. No logits are kept."""
    plan = plan._replace(keep=False)
    order, trips = _compact(counts, plan)

    def body(i: Any, found: Any) -> Any:
        at, live = _chunk(order, i, len(counts), plan)
        return _put(found, at, live, work.look(_take(rows, at, live), plan)[0])

    return _loop(trips, plan, len(counts), body, _nothing_found(work, rows, plan))


def find_grads(work: Work, rows: Rows, found: Any, slopes: Any, plan: Plan, need: Need) -> Grads:
    """Gradients of sum slopes parts: the logits are computed again, block by block."""
    plan = plan._replace(keep=False)
    counts = [jnp.any(s.reshape(len(s), -1) != 0.0, axis=1) for s in jax.tree.leaves(slopes)]
    order, trips = _compact(jnp.any(jnp.stack(counts), axis=0), plan)

    def body(i: Any, grads: Grads) -> Grads:
        at, live = _chunk(order, i, len(rows.labels), plan)
        own, stats, weights = _take((rows, found, slopes), at, live)
        return _add_chunk(work, own, stats, weights, at, live, plan, None, grads)

    return _loop(trips, plan, len(rows.labels), body, _no_grads(work.head, rows.hidden, need))


def find_loss_and_grads(
    work: Work,
    rows: Rows,
    weights: Float[Array, " N"],
    aux: Any,
    phi: Callable[[Any, Any], tuple[Array, Any]],
    plan: Plan,
    need: Need,
    row: int | None = None,
) -> tuple[Float[Array, ""], Any, Grads]:
    """Sum weight phi(found, aux), and its gradients, in one pass over the tokens that count.

    `phi` gives the loss of each token and its slopes with respect to the parts of `found`. With
    `row`, tokens come in rows of that length, and those of a row are in one chunk.
    """
    if not any(need):
        plan = plan._replace(keep=False)
    order, trips = _compact(weights != 0.0, plan, row)

    def body(i: Any, carry: Any) -> Any:
        total, all_, grads = carry
        at, live = _chunk(order, i, len(weights), plan)
        taken, weight, aux_ = _take((rows, weights, aux), at, live)
        found, kept = work.look(taken, plan)
        loss, slopes = phi(found, aux_)
        total = total + jnp.sum(jnp.where(live, weight * loss, 0.0))
        if any(need):
            slopes = jax.tree.map(lambda s: of_live(live, _like(weight, s) * s), slopes)
            grads = _add_chunk(work, taken, found, slopes, at, live, plan, kept, grads)
        return total, _put(all_, at, live, found), grads

    nothing = _nothing_found(work, rows, plan._replace(keep=False))
    start = (jnp.float32(0.0), nothing, _no_grads(work.head, rows.hidden, need))
    return _loop(trips, plan, len(weights), body, start)


def _add_chunk(
    work: Work,
    rows: Rows,
    found: Any,
    slopes: Any,
    at: Int[Array, " chunk"],
    live: Bool[Array, " chunk"],
    plan: Plan,
    kept: Any,
    grads: Grads,
) -> Grads:
    own = None if grads.hidden is None else jnp.zeros(rows.hidden.shape, jnp.float32)
    new = work.back(rows, found, slopes, plan, kept, grads._replace(hidden=own))
    return new._replace(hidden=_put(grads.hidden, at, live, new.hidden))


def _nothing_found(work: Work, rows: Rows, plan: Plan) -> Any:
    """Zeros for every token, of what a sweep finds."""
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), rows)
    found, _ = jax.eval_shape(lambda rows: work.look(rows, plan), one)
    return jax.tree.map(lambda x: jnp.zeros((len(rows.labels), *x.shape[1:]), x.dtype), found)


def _no_grads(head: LocalHead, hidden: Float[Array, "N D"], need: Need) -> Grads:
    def zeros(x: Array | None, wanted: bool) -> Array | None:
        return jnp.zeros(x.shape, jnp.float32) if wanted and x is not None else None

    return Grads(
        zeros(hidden, need.hidden), zeros(head.kernel, need.kernel), zeros(head.bias, need.bias)
    )


def _compact(
    counts: Bool[Array, " N"], plan: Plan, row: int | None = None
) -> tuple[Int[Array, " all"], Any]:
    """The token of every slot of the chunks, those that count only, and the number of chunks.

    An empty slot has a place behind the last token: nothing is read there, and nothing written.
    """
    size, tokens = plan.chunk, jnp.arange(len(counts), dtype=jnp.int32)
    if row is None or len(counts) <= size:
        slots, most = jnp.cumsum(counts) - 1, -(-len(counts) // size)
    else:
        slots, most = _by_rows(counts.reshape(-1, row), size)
    last = jnp.max(jnp.where(counts, slots, -1), initial=-1)
    empty = jnp.full(most * size, len(counts), jnp.int32)
    order = empty.at[jnp.where(counts, slots, most * size)].set(tokens, mode="drop")
    return order, last // size + 1


def _by_rows(counts: Bool[Array, "rows L"], size: int) -> tuple[Int[Array, " N"], int]:
    """The slot of every token that counts, and how many chunks there may be.

    A row whose tokens no longer fit into the chunk of the row before begins the next one.
    """
    assert counts.shape[1] <= size, "a chunk has no room for a row"

    def put(used: Array, own: Array) -> tuple[Array, Array]:
        first = jnp.where(used % size + own > size, used + -used % size, used)
        return first + own, first

    # Where a chunk is exactly full, `used` is the first slot of the next.
    _, first = jax.lax.scan(put, jnp.int32(0), jnp.sum(counts, axis=1, dtype=jnp.int32))
    slots = first[:, None] + jnp.cumsum(counts, axis=1, dtype=jnp.int32) - 1
    # Two chunks one after the other hold more tokens than one has slots.
    most = min(len(counts), 2 * -(-counts.size // size) + 1)
    return slots.ravel(), most


def _chunk(
    order: Int[Array, " all"], i: Any, tokens: int, plan: Plan
) -> tuple[Int[Array, " chunk"], Bool[Array, " chunk"]]:
    at = jax.lax.dynamic_slice_in_dim(order, i * plan.chunk, plan.chunk)
    return at, at < tokens


def _take(tree: Any, at: Int[Array, " chunk"], live: Bool[Array, " chunk"]) -> Any:
    """Rows of all arrays, zeros for those that do not count, whatever stands there."""
    return jax.tree.map(
        lambda x: of_live(live, jnp.take(x, at, axis=0, mode="fill", fill_value=0)), tree
    )


def _put(all_: Any, at: Int[Array, " chunk"], live: Bool[Array, " chunk"], part: Any) -> Any:
    """Rows put at their places; zeros for those that do not count."""

    def one(x: Array, y: Array) -> Array:
        return x.at[at].set(of_live(live, y), mode="drop", unique_indices=True)

    return jax.tree.map(one, all_, part)


def of_live(live: Bool[Array, " chunk"], x: Shaped[Array, "chunk ..."]) -> Array:
    """Rows of an array, zeros for those that do not count."""
    return jnp.where(_like(live, x), x, jnp.zeros((), x.dtype))


def _like(per_token: Shaped[Array, " chunk"], x: Shaped[Array, "chunk ..."]) -> Array:
    """One number per token, with as many axes as x."""
    return per_token.reshape(-1, *(1,) * (x.ndim - 1))


def _loop(trips: Any, plan: Plan, tokens: int, body: Callable[[Any, Any], Any], start: Any) -> Any:
    """The chunks one after the other; a single one needs no loop."""
    return body(0, start) if tokens <= plan.chunk else jax.lax.fori_loop(0, trips, body, start)
