# SPDX-License-Identifier: Apache-2.0
"""The work of two heads: how the alternatives of a model differ from those of its teacher."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from unilogit_jax.ops.blocks import (
    Block,
    LocalHead,
    Plan,
    block_again,
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
    shares,
    sums_of,
    sweep_back,
    through_cap,
)
from unilogit_jax.ops.targets import (
    Divergence,
    Pair,
    js_distance,
    js_logs,
    js_slopes,
    slopes_of_alternatives,
)


class Found(NamedTuple):
    """What is known of each token after the sweeps."""

    pair: Pair
    logit_tau: Float[Array, "*T"]
    ref_log_odds: Float[Array, "*T"]
    others: Float[Array, "*T"]
    """Logsumexp of the model's alternatives."""
    ref_others: Float[Array, "*T"]
    middle: Float[Array, "*T"]
    """Mean of the log-ratio under q, where a gradient needs it; else 0."""


class _Sums(NamedTuple):
    """Of both heads, and the mean that tells them apart, relative to the largest logit."""

    own: Sums
    ref: Sums
    cross: Float[Array, "*chunk"]
    """Sum of the difference of the logits, with the weights of the first in the divergence."""


Kept = tuple[Array | None, Array | None]


class PairWork(NamedTuple):
    """Distances between a model and a teacher; without a head of its own the teacher is uniform."""

    head: LocalHead
    ref: LocalHead | None
    combine: Combine
    divergence: Divergence

    def look(self, rows: Rows, plan: Plan) -> tuple[Found, Kept]:
        """One sweep; two for "js", which compares probabilities and so needs the sums first."""
        count = len(rows.labels)

        def step(carry: tuple, number: Array) -> tuple:
            sums, (kept, ref_kept) = carry
            block, other = self._blocks(rows, number, plan, (None, None))
            kept = keep_block(kept, block, number, plan)
            return self._merge(sums, self._sums(block, other, rows)), (
                kept,
                None if ref_kept is None else keep_block(ref_kept, other, number, plan),
            )

        room = make_room(self.head, count, plan)
        ref_room = None if self.ref is None else make_room(self.ref, count, plan)
        start = (_Sums(no_sums(count), no_sums(count), jnp.zeros(count)), (room, ref_room))
        sums, kept = over_blocks(self.head, plan, step, start)
        found = self._found(self.combine(sums, self._merge), rows)
        if self.divergence.direction == "js":
            found = self._js(rows, found, plan, kept)
        return found, kept

    def parts(self, found: Found) -> Pair:
        """What has a gradient."""
        return found.pair

    def back(
        self, rows: Rows, found: Found, slopes: Pair, plan: Plan, kept: Kept | None, grads: Grads
    ) -> Grads:
        """The sweep back."""
        direction = self.divergence.direction
        live = (slopes.log_odds != 0.0) | (slopes.distance != 0.0)
        if direction == "js":
            m = found.pair.log_odds
            slopes = js_slopes(slopes.distance, m, found.logit_tau, found.middle)
        wide = Pair(slopes.log_odds[:, None], slopes.distance[:, None])

        def slopes_at(number: Array) -> Float[Array, "chunk block"]:
            block, other = self._blocks(rows, number, plan, kept or (None, None))
            at_label = places(block, rows.labels, None).at_label
            q, q0 = shares(block.logits, found.others), shares(other.logits, found.ref_others)
            ratio = self._ratio(block, other, found)
            if direction == "js":
                m, logit_tau = found.pair.log_odds[:, None], found.logit_tau[:, None]
                ratio = js_logs(ratio, m, logit_tau)[0]
            dz = slopes_of_alternatives(direction, wide, q, q0, ratio, found.middle[:, None])
            return through_cap(jnp.where(at_label, wide.log_odds, dz), block, self.head, live)

        return sweep_back(self.head, rows.hidden, slopes_at, plan, grads)

    def _blocks(self, rows: Rows, number: Array, plan: Plan, kept: Kept) -> tuple[Block, Block]:
        """The same columns of model and teacher."""
        block = block_again(self.head, rows.hidden, number, plan, kept[0])
        if self.ref is None or rows.ref_hidden is None:
            flat = jnp.where(block.fresh, jnp.zeros_like(block.logits), -jnp.inf)
            return block, block._replace(logits=flat)
        return block, block_again(self.ref, rows.ref_hidden, number, plan, kept[1])

    def _sums(self, block: Block, other: Block, rows: Rows) -> _Sums:
        own, ref = (sums_of(b, rows.labels) for b in (block, other))
        z, u = block.logits, other.logits
        direction = self.divergence.direction
        if direction == "js":
            return _Sums(own, ref, jnp.zeros_like(own.total))
        if direction == "reverse":
            weights, gap = (block, own), z - u
        else:
            weights, gap = (other, ref), -z if direction == "cross_entropy" else u - z
        share = shares(left_out(weights[0], places(block, rows.labels, None)), weights[1].top)
        return _Sums(own, ref, jnp.sum(jnp.where(share > 0, share * gap, 0.0), axis=1))

    def _merge(self, a: _Sums, b: _Sums) -> _Sums:
        own, ref = merge(a.own, b.own), merge(a.ref, b.ref)
        which = (lambda s: s.own) if self.divergence.direction == "reverse" else (lambda s: s.ref)
        top = jnp.maximum(which(a).top, which(b).top)
        parts = [
            jnp.where(x.cross != 0, x.cross * jnp.exp(which(x).top - top), 0.0) for x in (a, b)
        ]
        return _Sums(own, ref, parts[0] + parts[1])

    def _found(self, sums: _Sums, rows: Rows) -> Found:
        direction = self.divergence.direction
        others, ref_others = sums.own.others, sums.ref.others
        total = sums.own.total if direction == "reverse" else sums.ref.total
        mean = jnp.where(total > 0, sums.cross / total, 0.0)
        shift = ref_others - others if direction == "reverse" else others - ref_others
        distance = mean + (others if direction == "cross_entropy" else shift)
        m, ref_log_odds = sums.own.label - others, sums.ref.label - ref_others
        logit_tau = self.divergence.logit_tau(ref_log_odds, self.head.vocab_size, rows.logit_tau)
        middle = distance if direction == "reverse" else jnp.zeros_like(distance)
        return Found(Pair(m, distance), logit_tau, ref_log_odds, others, ref_others, middle)

    def _ratio(self, block: Block, other: Block, found: Found) -> Float[Array, "chunk block"]:
        """log(q/q0); not read at labels and padding."""
        z, u = block.logits - found.others[:, None], other.logits - found.ref_others[:, None]
        return jnp.where(block.fresh, z - u, 0.0)

    def _js(self, rows: Rows, found: Found, plan: Plan, kept: Kept) -> Found:
        m, logit_tau = found.pair.log_odds[:, None], found.logit_tau[:, None]

        def step(means: tuple, number: Array) -> tuple:
            block, other = self._blocks(rows, number, plan, kept)
            where = places(block, rows.labels, None)
            q = shares(left_out(block, where), found.others)
            q0 = shares(left_out(other, where), found.ref_others)
            logs, ref_logs = js_logs(self._ratio(block, other, found), m, logit_tau)
            return means[0] + jnp.sum(q * logs, axis=1), means[1] + jnp.sum(q0 * ref_logs, axis=1)

        zeros = jnp.zeros_like(found.others)
        means = over_blocks(self.head, plan, step, (zeros, zeros))
        middle, ref_middle = self.combine(means, lambda a, b: (a[0] + b[0], a[1] + b[1]))
        distance = js_distance(found.pair.log_odds, found.logit_tau, middle, ref_middle)
        return found._replace(pair=found.pair._replace(distance=distance), middle=middle)


class PairTask(NamedTuple):
    """What to find with two heads."""

    divergence: Divergence

    def __call__(self, head: LocalHead, ref: LocalHead | None, combine: Combine) -> PairWork:
        """The work on one device's columns."""
        return PairWork(head, ref, combine, self.divergence)
