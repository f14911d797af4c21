# SPDX-License-Identifier: Apache-2.0
"""One update: a pure function of (state, batch), compiled once, sharded, its state donated."""

from collections.abc import Callable, Iterable
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
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
from unilogit_jax.train.state import TrainState
from unilogit_jax.types import Batch, Head, ModelOutput, TokenStats

ApplyFn = Callable[..., ModelOutput]
"""(params, batch), or (params, batch, frozen) where some weights are not trained."""
Metrics = dict[str, Float[Array, ""]]


def make_step(
    method: Method,
    apply_fn: ApplyFn,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    shardings: TrainState | None = None,
    frozen: Any = None,
    seed: int | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Compiles one update: forward of forget and retain together, loss, gradients, optimizer.

    Args:
      method: what to minimise.
      apply_fn: the model, `(params, batch) -> ModelOutput`; with `frozen` it takes three arguments.
      optimizer: an optax transformation.
      mesh: the device mesh; batch rows are divided over its data and fsdp axes.
      shardings: the tree of shardings that `init_state` returned; None lets the compiler choose.
      frozen: weights that stay as they are, under adapters say: no gradient of theirs is made, and
        they are neither copied nor consumed.
      seed: of a random key that `apply_fn` then gets as `key`, for dropout; the key of an update
        depends on the seed and the update's number alone.

    Returns:
      A jitted function; it consumes the state it is given (its buffers are donated).

    """

    def step(state: TrainState, batch: Batch, *frozen: Any) -> tuple[TrainState, Metrics]:
        keys = {}
        if seed is not None:
            keys["key"] = jax.random.fold_in(jax.random.key(seed), state.step)

        def loss_fn(params: Any) -> tuple[Float[Array, ""], tuple[Any, Metrics]]:
            output = apply_fn(params, batch, *frozen, **keys)
            loss, method_state, metrics = batch_loss(method, output, batch, state, mesh)
            return loss, (method_state, metrics)

        (_, (method_state, metrics)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        new_state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            opt_state=opt_state,
            method_state=method_state,
            ref_head=state.ref_head,
        )
        return new_state, metrics | {"grad_norm": optax.tree.norm(grads)}

    whole = NamedSharding(mesh, PartitionSpec())
    others = () if frozen is None else (frozen,)
    options = {}
    if shardings is not None:
        options["in_shardings"] = (shardings, None, *(None for _ in others))
        options["out_shardings"] = (shardings, whole)
    compiled = jax.jit(step, donate_argnums=0, **options)
    # An argument and no closure: constants would be copied into the program.
    return compiled if frozen is None else lambda state, batch: compiled(state, batch, frozen)


def batch_loss(
    method: Method, output: ModelOutput, batch: Batch, state: TrainState, mesh: Mesh
) -> tuple[Float[Array, ""], Any, Metrics]:
    """A method's loss of a batch, its next state and its metrics, the cheapest way it allows."""
    # The fused loss skips tokens that weigh nothing; the log wants their numbers all the same.
    if not isinstance(method, SeparableMethod) or 0.0 in method.set_weights.values():
        return method(token_stats(method, output, batch, state.ref_head, mesh), state.method_state)
    vocab_size = output.head.vocab_size
    sharding = head_sharding(output.head, output.hidden.shape, mesh)

    def phi(m: Array, sets: Array) -> tuple[Array, Array]:
        loss = partial(method.token_loss, sets=sets, vocab_size=vocab_size)
        return jax.jvp(loss, (m,), (jnp.ones_like(m),))

    compared = _divergences(method)
    weights = jnp.zeros_like(batch.weights)
    for which, weight in method.set_weights.items():
        own = jnp.where(batch.sets == which, batch.weights, 0.0)
        weights = weights + weight * own / jnp.maximum(jnp.sum(own), 1e-9)
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
            _teacher(method, batch, state.ref_head),
            batch.labels,
            jnp.where(batch.sets == which, weights, 0.0),
            how,
            sharding=sharding,
        )
        # Each is 0 where the others are not.
        total, log_odds = total + own, log_odds + found.log_odds
        divergence = divergence + found.values
    # The same numbers once more, for the log; the gradient is that of `total` alone.
    stats = _stats(batch, log_odds, vocab_size, divergence if compared else None)
    _, method_state, metrics = method(stats, state.method_state)
    return total, method_state, metrics


def token_stats(
    method: Method, output: ModelOutput, batch: Batch, ref_head: Head | None, mesh: Mesh
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
    return _stats(batch, stats.log_odds, output.head.vocab_size, divergence)


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
) -> TokenStats:
    return TokenStats(
        log_odds=log_odds,
        sets=batch.sets,
        segments=batch.segments,
        weights=batch.weights,
        ref_log_odds=batch.ref_log_odds,
        divergence=divergence,
        vocab_size=vocab_size,
        num_segments=batch.num_segments,
    )
