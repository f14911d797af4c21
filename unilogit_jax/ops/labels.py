# SPDX-License-Identifier: Apache-2.0
"""The work of one head: logits of label and picks, and the logsumexp of all that remains."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from unilogit_jax.ops.blocks import (
    Block,
    LocalHead,
    Plan,
    block_again,
    block_at,
    keep_block,
    make_room,
    over_blocks,
)
from unilogit_jax.ops.chunks import Combine, Rows
from unilogit_jax.ops.sweeps import (
    Grads,
    Sums,
    left_out,
    merge,
    no_sums,
    places,
    put_at_columns,
    shares,
    sums_of,
    sweep_back,
    through_cap,
)


class Groups(NamedTuple):
    """A vocabulary in groups: label, picks, rest; as a logsumexp of each, or slopes of a loss.

    dz = label e_y + sum_i picks_i e_i + rest r, with r the distribution of the rest.
    """

    label: Float[Array, "*T"]
    rest: Float[Array, "*T"]
    picks: Float[Array, "*T k"] | None = None


class LabelWork(NamedTuple):
    """Sums over a head's columns, and gradients from slopes of the groups."""

    head: LocalHead
    combine: Combine
    extras: tuple[str, ...] = ()

    def look(self, rows: Rows, plan: Plan) -> tuple[Sums, Array | None]:
        """One sweep."""
        picks = self._picks(rows)
        count = len(rows.labels)

        def step(carry: tuple, number: Array) -> tuple:
            sums, kept = carry
            block = block_at(self.head, rows.hidden, number, plan)
            found = sums_of(block, rows.labels, picks, self.extras)
            return merge(sums, found), keep_block(kept, block, number, plan)

        start = no_sums(count, picks=None if picks is None else picks.shape[1], extras=self.extras)
        carry = (start, make_room(self.head, count, plan))
        sums, kept = over_blocks(self.head, plan, step, carry)
        sums = self.combine(sums, merge)
        if picks is not None:
            sums = sums._replace(picks=jnp.where(picks >= 0, sums.picks, -jnp.inf))
        return sums, kept

    def parts(self, found: Sums) -> Groups:
        """What has a gradient."""
        return Groups(found.label, found.others, found.picks)

    def back(
        self, rows: Rows, found: Sums, slopes: Groups, plan: Plan, kept: Array | None, grads: Grads
    ) -> Grads:
        """The sweep back. The label's entry is its slope itself; nothing is subtracted."""
        picks, others = self._picks(rows), found.others
        live = (slopes.label != 0.0) | (slopes.rest != 0.0)
        if slopes.picks is not None:
            live |= jnp.any(slopes.picks != 0.0, axis=1)

        def slopes_at(number: Array) -> Float[Array, "chunk block"]:
            block: Block = block_again(self.head, rows.hidden, number, plan, kept)
            where = places(block, rows.labels, picks)
            dz = slopes.rest[:, None] * shares(left_out(block, where), others)
            dz = jnp.where(where.at_label, slopes.label[:, None], dz)
            if where.columns is not None:
                dz = put_at_columns(dz, where.columns, slopes.picks)
            return through_cap(dz, block, self.head, live)

        return sweep_back(self.head, rows.hidden, slopes_at, plan, grads)

    def _picks(self, rows: Rows) -> Int[Array, "chunk k"] | None:
        """The picks, -1 for those that are no token, the label, or there already."""
        picks = rows.picks
        if picks is None:
            return None
        valid = (picks >= 0) & (picks < self.head.vocab_size) & (picks != rows.labels[:, None])
        same = picks[:, :, None] == picks[:, None, :]
        earlier = jnp.tril(jnp.ones(same.shape[1:], bool), -1)[None]
        return jnp.where(valid & ~jnp.any(same & earlier, axis=2), picks, -1)


class LabelTask(NamedTuple):
    """What to find with one head."""

    extras: tuple[str, ...] = ()

    def __call__(self, head: LocalHead, ref: LocalHead | None, combine: Combine) -> LabelWork:
        """The work on one device's columns."""
        del ref
        return LabelWork(head, combine, self.extras)
