# SPDX-License-Identifier: Apache-2.0
"""Two models' heads as one, whose logits lack what the second of them prefers."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast, no_type_check

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from unilogit_jax.ops.blocks import LocalHead, Plan, block_at, over_blocks
from unilogit_jax.ops.chunks import Combine, Rows
from unilogit_jax.ops.fused import parts_of, split_head
from unilogit_jax.ops.generic import generic_logits
from unilogit_jax.ops.head import HeadStats, label_task, prepare, stats_of
from unilogit_jax.ops.labels import Groups
from unilogit_jax.ops.spread import HeadSharding
from unilogit_jax.ops.sweeps import Sums, merge, no_sums, sums_of
from unilogit_jax.types import Head, ModelOutput


# Unchecked at run time: JAX rebuilds the record around shapes and shardings too.
@no_type_check
@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class GenericHead:
    """Stands where a `Head` does, for hidden states of two models side by side.

    z = base(h) - alpha relu(reinforced(h') - base(h))

    Reference: arXiv:2310.02238, equation 1.
    """

    base: Head
    reinforced: Head
    alpha: float = field(metadata={"static": True})

    def apart(self, hidden: Float[Array, "*T both"]) -> tuple[ModelOutput, ModelOutput]:
        """Hidden states, half of the width given, and head of each model."""
        base, reinforced = jnp.split(hidden, 2, axis=-1)
        return (
            ModelOutput(hidden=base, head=self.base),
            ModelOutput(hidden=reinforced, head=self.reinforced),
        )

    def logits(self, hidden: Float[Array, "*T both"]) -> Float[Array, "*T V"]:
        """All logits, in float32. Holds three arrays of tokens x V."""
        # A difference of logits times alpha: on a TPU only this multiplies float32 whole.
        with jax.default_matmul_precision("highest"):
            base, reinforced = (one.logits() for one in self.apart(hidden))
        return generic_logits(base, reinforced, alpha=self.alpha)


def generic_log_odds(
    hidden: Float[Array, "*T both"],
    head: GenericHead,
    labels: Int[Array, "*T"],
    weights: Float[Array, "*T"],
    *,
    extras: tuple[str, ...] = (),
    sharding: HeadSharding | None = None,
    precision: Any = "auto",
) -> HeadStats:
    """As `label_log_odds`, of the generic logits; nothing has a gradient.

    The logits of both models are computed block by block and never kept: two matmuls. With alpha 0
    the numbers are those of the base.

    Args:
      hidden: last hidden states of the base, and behind them those of the reinforced model.
      head: their heads.
      labels: index of the token to predict; positions outside 0..V-1 do not count.
      weights: positions of weight 0 do not count, even if they hold NaN.
      extras: as in `label_log_odds`.
      sharding: as in `label_log_odds`; both heads lie on the same axes.
      precision: as in `label_log_odds`.

    Raises:
      ValueError: an unknown extra.

    Example:
      >>> base, other = Head(kernel=jnp.array([[2.0], [0.0]])), Head(kernel=jnp.zeros((2, 1)))
      >>> head = GenericHead(base=base, reinforced=other, alpha=5.0)
      >>> stats = generic_log_odds(jnp.ones((1, 2)), head, jnp.array([0]), jnp.ones(1))
      >>> stats.log_odds
      Array([2.], dtype=float32)

    """
    base, reinforced = head.apart(hidden)
    task = GenericTask(float(head.alpha), label_task(extras).extras)
    how, arrays = prepare(base.hidden, base.head, labels, weights, sharding, precision, task)
    form, ref = split_head(reinforced.hidden, reinforced.head)
    how, arrays = how._replace(ref_form=form), arrays._replace(ref=ref)
    groups, sums = cast(tuple[Groups, Sums], parts_of(how, jax.lax.stop_gradient(arrays)))
    return stats_of(groups, sums, arrays, how.form.vocab_size)


class GenericWork(NamedTuple):
    """Sums over the columns of both heads, as if they were one."""

    head: LocalHead
    ref: LocalHead
    combine: Combine
    alpha: float
    extras: tuple[str, ...]

    def look(self, rows: Rows, plan: Plan) -> tuple[Sums, None]:
        """One sweep."""
        other = rows.ref_hidden
        assert other is not None

        def step(sums: Sums, number: Array) -> Sums:
            block = block_at(self.head, rows.hidden, number, plan)
            reinforced = block_at(self.ref, other, number, plan).logits
            z = generic_logits(block.logits, reinforced, alpha=self.alpha)
            return merge(sums, sums_of(block._replace(logits=z), rows.labels, None, self.extras))

        start = no_sums(len(rows.labels), extras=self.extras)
        return self.combine(over_blocks(self.head, plan, step, start), merge), None

    def parts(self, found: Sums) -> Groups:
        """The label against all the others."""
        return Groups(found.label, found.others)

    def back(self, *_: Any) -> Any:
        """Never asked for."""
        raise NotImplementedError("generic logits are for scores and answers, without a gradient")


class GenericTask(NamedTuple):
    """What to find with a model's head and a reinforced one's."""

    alpha: float
    extras: tuple[str, ...]

    def __call__(self, head: LocalHead, ref: LocalHead | None, combine: Combine) -> GenericWork:
        """The work on one device's columns."""
        assert ref is not None
        return GenericWork(head, ref, combine, self.alpha, self.extras)
