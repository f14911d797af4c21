# SPDX-License-Identifier: Apache-2.0
"""A method's loss of a batch, from a model's hidden states, the cheapest way the method allows."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from unilogit_jax.methods import Method, Structured, Unlearning
from unilogit_jax.ops import LONGEST_ROW
from unilogit_jax.train.looks import Counts, Look, in_sets
from unilogit_jax.types import RETAIN, SETS, Batch, Head, ModelOutput

ApplyFn = Callable[..., ModelOutput]
"""(params, batch), or (params, batch, frozen) where some weights are not trained."""
Metrics = dict[str, Float[Array, ""]]


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
    look = Look(method, output, batch, mesh, counts, ref_head)
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
    weights = jnp.where(in_sets(batch.sets, alone), weights, 0.0)
    by_answer = _by_answer(method, batch)
    if by_answer:
        total, log_odds = look.at_answers(method, weights)
    elif alone:
        total, log_odds = look.at_tokens(method, weights)
    for comparison in method.comparisons:
        mean, m = look.compared(comparison)
        which = comparison.which
        if method.set_weights[which] != 0:
            total = total + method.set_weights[which] * mean
        means[which] = means[which] + mean
        log_odds = _filled(log_odds, m)
    extras = {}
    if method.answer_sets and not by_answer:
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


def _by_answer(method: Structured, batch: Batch) -> bool:
    """Whether the losses of answers can be differentiated while their logits are at hand."""
    if not isinstance(method, Unlearning) or not method.answer_sets or method.needs.extras:
        return False
    # Who overrides the loss of a class has to declare this anew.
    owner = next(kind for kind in type(method).__mro__ if "answer_loss" in vars(kind))
    apart = vars(owner).get("answers_apart", False) and not _weighs_nothing(method)
    return apart and batch.labels.shape[-1] <= LONGEST_ROW


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
