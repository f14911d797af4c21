# SPDX-License-Identifier: Apache-2.0
"""One update: a pure function of (state, batch), compiled once, sharded, its state donated."""

from collections.abc import Callable
from typing import Any, cast

import jax
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from unilogit_jax.methods import DistributionMethod, Method
from unilogit_jax.ops import label_log_odds
from unilogit_jax.train.state import TrainState
from unilogit_jax.types import Batch, Head, ModelOutput, TokenStats

ApplyFn = Callable[[Any, Batch], ModelOutput]
Metrics = dict[str, Float[Array, ""]]


def make_step(
    method: Method,
    apply_fn: ApplyFn,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    shardings: TrainState | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Compiles one update: forward of forget and retain together, loss, gradients, optimizer.

    Args:
      method: what to minimise.
      apply_fn: the model, `(params, batch) -> ModelOutput`.
      optimizer: an optax transformation.
      mesh: the device mesh; batch rows are divided over its data and fsdp axes.
      shardings: the tree of shardings that `init_state` returned; None lets the compiler choose.

    Returns:
      A jitted function; it consumes the state it is given (its buffers are donated).

    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        def loss_fn(params: Any) -> tuple[Float[Array, ""], tuple[Any, Metrics]]:
            stats = token_stats(method, apply_fn(params, batch), batch, state.ref_head)
            loss, method_state, metrics = method(stats, state.method_state)
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
    if shardings is None:
        return jax.jit(step, donate_argnums=0)
    return jax.jit(
        step,
        in_shardings=(shardings, None),
        out_shardings=(shardings, whole),
        donate_argnums=0,
    )


def token_stats(
    method: Method, output: ModelOutput, batch: Batch, ref_head: Head | None
) -> TokenStats:
    """The statistics that a method sees, from a model's output on a batch."""
    stats = label_log_odds(output.hidden, output.head, batch.labels, batch.weights)
    divergence = None
    if "ref_hidden" in method.needs:
        if batch.ref_hidden is None or ref_head is None:
            raise ValueError(
                f"{type(method).__name__} needs the reference's hidden states and head."
            )
        divergence = cast(DistributionMethod, method).divergence(
            output.hidden, output.head, batch.ref_hidden, ref_head, batch.labels
        )
    return TokenStats(
        log_odds=stats.log_odds,
        sets=batch.sets,
        segments=batch.segments,
        weights=batch.weights,
        ref_log_odds=batch.ref_log_odds,
        divergence=divergence,
        vocab_size=output.head.vocab_size,
        num_segments=batch.num_segments,
    )
