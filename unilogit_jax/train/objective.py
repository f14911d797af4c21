# SPDX-License-Identifier: Apache-2.0
"""A method's loss of a batch, from a model's hidden states, the cheapest way the method allows."""

from collections.abc import Callable, Iterable
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from unilogit_jax.methods import DistributionMethod, Method, SeparableMethod
from unilogit_jax.ops import (
    Divergence,
    Teacher,
    chunked_divergence,
    divergence_loss,
    head_loss,
    label_log_odds,
)
from unilogit_jax.sharding import head_sharding
from unilogit_jax.types import Batch, Head, ModelOutput, TokenStats

ApplyFn = Callable[..., ModelOutput]
"""(params, batch), or (params, batch, frozen) where some weights are not trained."""
Metrics = dict[str, Float[Array, ""]]


class Counts(NamedTuple):
    """Of each set: the weight of its supervised tokens, and how many examples have some."""

    tokens: Float[Array, "4"]
    answers: Float[Array, "4"]


def count_sets(batch: Batch) -> Counts:
    """Counts of a whole batch, for the means over its parts."""
    on = [batch.sets == which for which in range(4)]
    ids = batch.segments.ravel()

    def answers(mask: Bool[Array, "B L"]) -> Array:
        ones = (mask & (batch.weights != 0)).astype(jnp.float32).ravel()
        present = jax.ops.segment_sum(ones, ids, batch.num_segments) > 0
        return jnp.sum(present.astype(jnp.float32))

    tokens = [jnp.sum(jnp.where(mask, batch.weights, 0.0)) for mask in on]
    return Counts(jnp.stack(tokens), jnp.stack([answers(mask) for mask in on]))


def batch_loss(
    method: Method,
    output: ModelOutput,
    batch: Batch,
    mesh: Mesh,
    *,
    ref_head: Head | None = None,
    method_state: Any = (),
    counts: Counts | None = None,
) -> tuple[Float[Array, ""], Any, Metrics]:
    """A method's loss of a batch, its next state and its metrics, the cheapest way it allows.

    Args:
      method: what to minimise.
      output: the model's output on the batch.
      batch: a batch, or a part of one.
      mesh: the device mesh.
      ref_head: the frozen reference's head, where the method has a teacher.
      method_state: the method's state.
      counts: those of the whole batch, where this is a part.

    """
    counts = count_sets(batch) if counts is None else counts
    # The fused loss skips tokens that weigh nothing; the log wants their numbers all the same.
    if not isinstance(method, SeparableMethod) or 0.0 in method.set_weights.values():
        return method(token_stats(method, output, batch, ref_head, mesh, counts), method_state)
    vocab_size = output.head.vocab_size
    sharding = head_sharding(output.head, output.hidden.shape, mesh)

    def phi(m: Array, sets: Array) -> tuple[Array, Array]:
        loss = partial(method.token_loss, sets=sets, vocab_size=vocab_size)
        return jax.jvp(loss, (m,), (jnp.ones_like(m),))

    compared = _divergences(method)
    weights = jnp.zeros_like(batch.weights)
    for which, weight in method.set_weights.items():
        own = jnp.where(batch.sets == which, batch.weights, 0.0)
        weights = weights + weight * own / jnp.maximum(counts.tokens[which], 1e-9)
    total, stats = head_loss(
        output.hidden,
        output.head,
        batch.labels,
        jnp.where(_in(batch.sets, compared), 0.0, weights),
        phi,
        aux=batch.sets,
        sharding=sharding,
    )
    log_odds, divergence = stats.log_odds, jnp.zeros_like(stats.log_odds)
    for which, how in compared.items():
        own, found = divergence_loss(
            output.hidden,
            output.head,
            _teacher(method, batch, ref_head),
            batch.labels,
            jnp.where(batch.sets == which, weights, 0.0),
            how,
            sharding=sharding,
        )
        # Each is 0 where the others are not.
        total, log_odds = total + own, log_odds + found.log_odds
        divergence = divergence + found.values
    # The same numbers once more, for the log; the gradient is that of `total` alone.
    stats = _stats(batch, log_odds, vocab_size, divergence if compared else None, counts)
    _, method_state, metrics = method(stats, method_state)
    return total, method_state, metrics


def token_stats(
    method: Method,
    output: ModelOutput,
    batch: Batch,
    ref_head: Head | None,
    mesh: Mesh,
    counts: Counts | None = None,
) -> TokenStats:
    """The statistics that a method sees, from a model's output on a batch."""
    sharding = head_sharding(output.head, output.hidden.shape, mesh)
    stats = label_log_odds(
        output.hidden, output.head, batch.labels, batch.weights, sharding=sharding
    )
    divergence = jnp.zeros_like(stats.log_odds)
    compared = _divergences(method)
    for which, how in compared.items():
        found = chunked_divergence(
            output.hidden,
            output.head,
            _teacher(method, batch, ref_head),
            batch.labels,
            jnp.where(batch.sets == which, batch.weights, 0.0),
            how,
            sharding=sharding,
        )
        divergence = divergence + found.values
    divergence = divergence if compared else None
    return _stats(batch, stats.log_odds, output.head.vocab_size, divergence, counts)


def _divergences(method: Method) -> dict[int, Divergence]:
    return method.divergences if isinstance(method, DistributionMethod) else {}


def _in(sets: Int[Array, "B L"], some: Iterable[int]) -> Bool[Array, "B L"]:
    return reduce(jnp.logical_or, [sets == which for which in some], jnp.zeros_like(sets, bool))


def _teacher(method: Method, batch: Batch, ref_head: Head | None) -> Teacher:
    if batch.ref_hidden is None or ref_head is None:
        raise ValueError(f"{type(method).__name__} needs the reference's hidden states and head.")
    return Teacher(hidden=batch.ref_hidden, head=ref_head)


def _stats(
    batch: Batch,
    log_odds: Float[Array, "B L"],
    vocab_size: int,
    divergence: Float[Array, "B L"] | None,
    counts: Counts | None,
) -> TokenStats:
    return TokenStats(
        log_odds=log_odds,
        sets=batch.sets,
        segments=batch.segments,
        weights=batch.weights,
        ref_log_odds=batch.ref_log_odds,
        divergence=divergence,
        set_tokens=None if counts is None else counts.tokens,
        set_answers=None if counts is None else counts.answers,
        vocab_size=vocab_size,
        num_segments=batch.num_segments,
    )
