# SPDX-License-Identifier: Apache-2.0
"""The likeliest tokens of each position, without the logits: what is stored of a teacher."""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from unilogit_jax.ops.blocks import LocalHead, Plan, block_at, over_blocks
from unilogit_jax.ops.chunks import Combine, Rows
from unilogit_jax.ops.fused import parts_of
from unilogit_jax.ops.head import prepare
from unilogit_jax.ops.spread import HeadSharding
from unilogit_jax.ops.sweeps import left_out, places
from unilogit_jax.types import Head


def top_tokens(
    hidden: Float[Array, "*T D"],
    head: Head | Float[Array, "V D"],
    labels: Int[Array, "*T"],
    weights: Float[Array, "*T"],
    *,
    k: int,
    sharding: HeadSharding | None = None,
    precision: Any = "auto",
) -> Int[Array, "*T {k}"]:
    """The k likeliest tokens but the label, likeliest first; of equal ones the lower first.

    Args:
      hidden: a model's last hidden states.
      head: a `Head`, or a bare kernel [V D].
      labels: tokens that are left out; positions outside 0..V-1 do not count.
      weights: positions of weight 0 do not count: their tokens are 0.
      k: how many; where the vocabulary has fewer, the rest is -1.
      sharding: as in `label_log_odds`.
      precision: as in `label_log_odds`.

    Raises:
      ValueError: if `k` is not positive.

    Example:
      >>> hidden, kernel = jnp.ones((1, 1)), jnp.array([[3.0], [1.0], [4.0], [2.0]])
      >>> top_tokens(hidden, kernel, jnp.array([2]), jnp.ones(1), k=2)
      Array([[0, 3]], dtype=int32)

    """
    if k < 1:
        raise ValueError(f"k={k}: at least one token")
    how, arrays = prepare(hidden, head, labels, weights, sharding, precision, TopTask(k))
    _, found = cast(tuple[tuple[()], Top], parts_of(how, jax.lax.stop_gradient(arrays)))
    return found.tokens


class Top(NamedTuple):
    """The likeliest tokens so far."""

    logits: Float[Array, "*chunk k"]
    tokens: Int[Array, "*chunk k"]


class TopWork(NamedTuple):
    """Keeps the k likeliest of all blocks."""

    head: LocalHead
    combine: Combine
    k: int

    def look(self, rows: Rows, plan: Plan) -> tuple[Top, None]:
        """One sweep."""

        def step(best: Top, number: Array) -> Top:
            block = block_at(self.head, rows.hidden, number, plan)
            z = left_out(block, places(block, rows.labels, None))
            return self._merge(best, Top(z, jnp.broadcast_to(block.indices, z.shape)))

        shape = (len(rows.labels), self.k)
        start = Top(jnp.full(shape, -jnp.inf), jnp.full(shape, -1, jnp.int32))
        return self.combine(over_blocks(self.head, plan, step, start), self._merge), None

    def parts(self, found: Top) -> tuple[()]:
        """Nothing has a gradient."""
        del found
        return ()

    def back(self, *_: Any) -> Any:
        """Never asked for."""
        raise NotImplementedError("tokens have no gradient")

    def _merge(self, a: Top, b: Top) -> Top:
        # top_k takes the first of equal ones: those of lower index, and -1 before a label's column.
        logits, tokens = (jnp.concatenate(x, axis=-1) for x in zip(a, b, strict=True))
        logits, at = jax.lax.top_k(logits, self.k)
        return Top(logits, jnp.take_along_axis(tokens, at, axis=-1))


class TopTask(NamedTuple):
    """How many tokens to keep."""

    k: int

    def __call__(self, head: LocalHead, ref: LocalHead | None, combine: Combine) -> TopWork:
        """The work on one device's columns."""
        del ref
        return TopWork(head, combine, self.k)
