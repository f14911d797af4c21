# SPDX-License-Identifier: Apache-2.0
"""The ways to look at a model's output on a batch: through the head, or beside a teacher."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from unilogit_jax.methods import Comparison, Given, Method, Structured
from unilogit_jax.ops import (
    HeadSharding,
    Teacher,
    TopK,
    divergence_loss,
    head_loss,
    label_log_odds,
    logit_gap,
    top_tokens,
)
from unilogit_jax.sharding import head_sharding
from unilogit_jax.types import Batch, Head, ModelOutput, TokenStats


class Counts(NamedTuple):
    """What a whole batch has of each set."""

    tokens: Float[Array, " S"]
    """Weight of the supervised tokens."""
    answers: Float[Array, " S"]
    """Examples with supervised tokens."""
    positions: Float[Array, " S"]
    """Positions, supervised or not."""


class Look(NamedTuple):
    """A model's output on a batch, and the ways to look at it."""

    method: Method
    output: ModelOutput
    batch: Batch
    mesh: Mesh
    counts: Counts
    ref_head: Head | None

    @property
    def sharding(self) -> HeadSharding | None:
        """How tokens and head lie on the mesh."""
        return head_sharding(self.output.head, self.output.hidden.shape, self.mesh)

    @property
    def given(self) -> Given:
        """What a loss of single tokens may read besides."""
        return Given(self.batch.sets, self.batch.ref_log_odds, self.batch.logit_tau)

    def blank(self) -> TokenStats:
        """Statistics without any."""
        batch = self.batch
        return TokenStats(
            log_odds=jnp.zeros_like(batch.weights),
            sets=batch.sets,
            segments=batch.segments,
            weights=batch.weights,
            ref_log_odds=batch.ref_log_odds,
            logit_tau=batch.logit_tau,
            partners=batch.partners,
            set_tokens=self.counts.tokens,
            set_answers=self.counts.answers,
            vocab_size=self.output.head.vocab_size,
            num_segments=batch.num_segments,
        )

    def at_tokens(
        self, method: Structured, weights: Float[Array, "B L"]
    ) -> tuple[Float[Array, ""], Float[Array, "B L"]]:
        """The sum of losses of single tokens, and their log-odds."""
        output, batch = self.output, self.batch

        def phi(m: Array, given: Given) -> tuple[Array, Array]:
            size = output.head.vocab_size
            loss = partial(method.token_loss, given=given, vocab_size=size)
            return jax.jvp(loss, (m,), (jnp.ones_like(m),))

        total, stats = head_loss(
            output.hidden,
            output.head,
            batch.labels,
            weights,
            phi,
            aux=self.given,
            sharding=self.sharding,
        )
        return total, stats.log_odds

    def at_answers(
        self, method: Structured, weights: Float[Array, "B L"]
    ) -> tuple[Float[Array, ""], Float[Array, "B L"]]:
        """The same with the losses of answers, a few whole rows at a time."""
        output, batch = self.output, self.batch
        vocab_size, num_segments = output.head.vocab_size, batch.num_segments
        # Divisors are put beside every token, for what is handed on is so token by token.
        divisors = [
            jnp.broadcast_to(count, (*weights.shape, len(count)))
            for count in (self.counts.tokens, self.counts.answers)
        ]

        def phi(m: Array, aux: Any) -> tuple[Array, Array]:
            given, weights, (segments, own), divisors = aux
            tokens, answers = (jnp.max(x, axis=0) for x in divisors)

            def whole(m: Array) -> Array:
                values = method.token_loss(m, given, vocab_size=vocab_size)
                stats = TokenStats(
                    log_odds=m,
                    sets=given.sets,
                    segments=segments,
                    weights=own,
                    ref_log_odds=given.ref_log_odds,
                    logit_tau=given.logit_tau,
                    set_tokens=tokens,
                    set_answers=answers,
                    vocab_size=vocab_size,
                    num_segments=num_segments,
                )
                alone = jnp.sum(jnp.where(weights != 0, weights * values, 0.0))
                return alone + method.answer_loss(stats, ())

            loss, slopes = jax.value_and_grad(whole)(m)
            return jnp.zeros_like(m).at[0].set(loss), slopes

        seen = (weights != 0) | (in_sets(batch.sets, method.answer_sets) & (batch.weights != 0))
        total, stats = head_loss(
            output.hidden,
            output.head,
            batch.labels,
            seen.astype(jnp.float32),
            phi,
            aux=(self.given, weights, (batch.segments, batch.weights), divisors),
            sharding=self.sharding,
            whole_rows=True,
        )
        return total, stats.log_odds

    def compared(self, how: Comparison) -> tuple[Float[Array, ""], Float[Array, "B L"]]:
        """The mean divergence of a set from its teacher, and the log-odds of its tokens."""
        output, batch, counts = self.output, self.batch, self.counts
        own, size = batch.sets == how.which, output.head.vocab_size
        if how.tokens is not None:
            own &= how.tokens(self.given, size)
        weights = own.astype(jnp.float32) if how.everywhere else batch.weights
        total = (counts.positions if how.everywhere else counts.tokens)[how.which]
        blank = batch.labels < 0
        mean, found = divergence_loss(
            output.hidden,
            output.head,
            self._teacher(how),
            jnp.where(blank, how.unlabelled % size, batch.labels),
            jnp.where(own, weights, 0.0) / jnp.maximum(total, 1e-9),
            how.divergence,
            logit_tau=None if how.logit_tau is None else how.logit_tau(self.given, size),
            sharding=self.sharding,
        )
        return mean, jnp.where(blank, 0.0, found.log_odds)

    def statistics(self, sets: frozenset[int], *, live: bool = True) -> TokenStats:
        """Numbers of the tokens of some sets, with a gradient if `live`."""
        output, batch = self.output, self.batch
        hidden, head = output.hidden, output.head
        if not live:
            hidden, head = jax.lax.stop_gradient((hidden, head))
        weights = jnp.where(in_sets(batch.sets, sets), batch.weights, 0.0)
        where = (batch.labels, weights)
        picks = None
        wanted = self.method.needs.extras
        if wanted:
            frozen = jax.lax.stop_gradient((hidden, head))
            picks = top_tokens(*frozen, *where, k=1, sharding=self.sharding)
        stats = label_log_odds(hidden, head, *where, picks=picks, sharding=self.sharding)
        extras = {}
        if stats.pick_logprobs is not None and picks is not None:
            top = stats.pick_logprobs[..., 0]
            if "top_logprob" in wanted:
                extras["top_logprob"] = top
            if "logit_gap" in wanted:
                label = -jax.nn.softplus(-stats.log_odds)
                best = jnp.where(label >= top, batch.labels, picks[..., 0])
                extras["logit_gap"] = logit_gap(hidden, head, best, weights)
        return replace(self.blank(), log_odds=stats.log_odds, extras=extras)

    def _teacher(self, how: Comparison) -> Teacher | TopK | None:
        batch, name = self.batch, type(self.method).__name__
        if how.teacher == "uniform":
            return None
        if how.teacher == "hidden":
            if batch.ref_hidden is None or self.ref_head is None:
                raise ValueError(f"{name} needs the reference's hidden states and head.")
            return Teacher(hidden=batch.ref_hidden, head=self.ref_head)
        tokens, logprobs = batch.ref_tokens, batch.ref_logprobs
        tail, log_odds = batch.ref_tail, batch.ref_log_odds
        if tokens is None or logprobs is None or tail is None or log_odds is None:
            raise ValueError(f"{name} needs stored tokens of the reference.")
        return TopK(
            tokens=tokens,
            logprobs=logprobs,
            label_logprob=-jax.nn.softplus(-log_odds),
            tail_logprob=tail,
        )


def in_sets(sets: Int[Array, "B L"], some: Iterable[int]) -> Bool[Array, "B L"]:
    """Where a token is of one of some sets."""
    return reduce(jnp.logical_or, [sets == which for which in some], jnp.zeros_like(sets, bool))
