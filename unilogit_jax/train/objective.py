# SPDX-License-Identifier: Apache-2.0
"""A method's loss of a batch, from a model's hidden states, the cheapest way the method allows."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from unilogit_jax.methods import Comparison, Given, Method, Structured, Unlearning
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
from unilogit_jax.types import RETAIN, SETS, Batch, Head, ModelOutput, TokenStats

ApplyFn = Callable[..., ModelOutput]
"""(params, batch), or (params, batch, frozen) where some weights are not trained."""
Metrics = dict[str, Float[Array, ""]]


class Counts(NamedTuple):
    """What a whole batch has of each set."""

    tokens: Float[Array, " S"]
    """Weight of the supervised tokens."""
    answers: Float[Array, " S"]
    """Examples with supervised tokens."""
    positions: Float[Array, " S"]
    """Positions, supervised or not."""


def count_sets(batch: Batch) -> Counts:
    """Counts of a whole batch, for the means over its parts."""
    on = [batch.sets == which for which in range(SETS)]
    ids = batch.segments.ravel()

    def answers(mask: Bool[Array, "B L"]) -> Array:
        ones = (mask & (batch.weights != 0)).astype(jnp.float32).ravel()
        present = jax.ops.segment_sum(ones, ids, batch.num_segments) > 0
        return jnp.sum(present.astype(jnp.float32))

    tokens = [jnp.sum(jnp.where(mask, batch.weights, 0.0)) for mask in on]
    positions = [jnp.sum(mask.astype(jnp.float32)) for mask in on]
    return Counts(
        jnp.stack(tokens), jnp.stack([answers(mask) for mask in on]), jnp.stack(positions)
    )


def weighed(method: Method, batch: Batch) -> Batch:
    """The batch with the token weights that the method wants."""
    return method.weigh(batch) if isinstance(method, Structured) else batch


def batch_loss(
    method: Method,
    output: ModelOutput,
    batch: Batch,
    mesh: Mesh,
    *,
    ref_head: Head | None = None,
    method_state: Any = (),
    counts: Counts | None = None,
    logged: Method | None = None,
) -> tuple[Float[Array, ""], Metrics]:
    """A method's loss of a batch and its metrics, the cheapest way it allows.

    Args:
      method: what to minimise.
      output: the model's output on the batch.
      batch: a batch, or a part of one; `weighed` by the method.
      mesh: the device mesh.
      ref_head: the frozen reference's head, where the method has a teacher.
      method_state: the method's state.
      counts: those of the whole batch, where this is a part.
      logged: whose numbers are returned, where `method` is one term of its loss.

    """
    counts = count_sets(batch) if counts is None else counts
    logged = method if logged is None else logged
    look = _Look(method, output, batch, mesh, counts, ref_head)
    if method.needs.layer is not None:
        # The forward pass ended there: no head has been looked through.
        found = {"hidden": output.hidden, "ref_hidden": batch.ref_hidden}
        stats = replace(look.blank(), **found)
        loss, numbers = method(stats, method_state)
        return loss, numbers if logged is method else logged(stats, method_state)[1]
    if not isinstance(method, Structured):
        every = frozenset(range(1, SETS))
        return method(look.statistics(every), method_state)
    weights = _in_loss(method, batch, counts)
    compared = {comparison.which for comparison in method.comparisons}
    total, blank = jnp.zeros(()), jnp.zeros_like(batch.weights)
    log_odds, means = blank, {which: jnp.zeros(()) for which in compared}
    alone = {w for w, weight in method.set_weights.items() if weight != 0} & method.token_sets
    if alone:
        own, m = look.at_tokens(method, jnp.where(_in(batch.sets, alone), weights, 0.0))
        total, log_odds = total + own, m
    for comparison in method.comparisons:
        mean, m = look.compared(comparison)
        which = comparison.which
        if method.set_weights[which] != 0:
            total = total + method.set_weights[which] * mean
        means[which] = means[which] + mean
        log_odds = _filled(log_odds, m)
    extras = {}
    if method.answer_sets:
        live = not _weighs_nothing(method)
        stats = look.statistics(method.answer_sets, live=live)
        if live:
            total = total + method.answer_loss(stats, method_state)
        log_odds, extras = _filled(log_odds, stats.log_odds), stats.extras
    idle = {w for w, weight in method.set_weights.items() if weight == 0}
    idle = (idle & method.token_sets) - method.answer_sets
    if idle:
        # What weighs nothing is not in the loss; the log wants its numbers all the same.
        log_odds = _filled(log_odds, look.statistics(frozenset(idle), live=False).log_odds)
    # The same numbers once more, for the log; the gradient is that of `total` alone.
    seen = jax.lax.stop_gradient((log_odds, extras, means))
    stats = replace(look.blank(), log_odds=seen[0], extras=seen[1], compared=seen[2])
    return total, logged(stats, method_state)[1]


class _Look(NamedTuple):
    """A model's output on a batch, and the ways to look at it."""

    method: Method
    output: ModelOutput
    batch: Batch
    mesh: Mesh
    counts: Counts
    ref_head: Head | None

    @property
    def sharding(self) -> HeadSharding | None:
        return head_sharding(self.output.head, self.output.hidden.shape, self.mesh)

    @property
    def given(self) -> Given:
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
        weights = jnp.where(_in(batch.sets, sets), batch.weights, 0.0)
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


def _weighs_nothing(method: Method) -> bool:
    """Whether the loss of answers is a forget loss of weight 0."""
    if not isinstance(method, Unlearning) or RETAIN in method.answer_sets:
        return False
    return method.forget_weight == 0


def _in_loss(method: Structured, batch: Batch, counts: Counts) -> Float[Array, "B L"]:
    """Each token's weight in the sum of the weighted means."""
    weights = jnp.zeros_like(batch.weights)
    for which, weight in method.set_weights.items():
        own = jnp.where(batch.sets == which, batch.weights, 0.0)
        weights = weights + weight * own / jnp.maximum(counts.tokens[which], 1e-9)
    return weights


def _filled(known: Float[Array, "B L"], more: Float[Array, "B L"]) -> Float[Array, "B L"]:
    """Log-odds of tokens that several looks have seen; 0 where one has not looked."""
    return jnp.where(known == 0, more, known)


def _in(sets: Int[Array, "B L"], some: Iterable[int]) -> Bool[Array, "B L"]:
    return reduce(jnp.logical_or, [sets == which for which in some], jnp.zeros_like(sets, bool))
