# SPDX-License-Identifier: Apache-2.0
"""One update: a pure function of (state, batch), compiled once, sharded, its state donated."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from unilogit_jax.methods import Method, Structured, Unlearning
from unilogit_jax.train.accumulate import Sums, accumulate
from unilogit_jax.train.objective import ApplyFn, Metrics, batch_loss, count_sets, weighed
from unilogit_jax.train.rounding import add_updates, below_ulp, widen
from unilogit_jax.train.sharpness import radius_of, sharp_gradients
from unilogit_jax.train.state import TrainState
from unilogit_jax.train.trainable import EVERYTHING, Trainable
from unilogit_jax.types import Batch

UPHILL = np.uint32(2**32 - 1)
"""Folded into the key of an update's rounding for a step that is taken back: no leaf's number."""


def make_step(
    method: Method,
    apply_fn: ApplyFn,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    shardings: TrainState | None = None,
    frozen: Any = None,
    trainable: Trainable = EVERYTHING,
    seed: int | None = None,
    rounding_seed: int = 0,
    microbatches: int = 1,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Compiles one update: forward of forget and retain together, loss, gradients, optimizer.

    An update whose loss or gradient is not finite changes nothing but the counts of such updates.
    Weights in bfloat16 are rounded stochastically, and the metrics then hold `below_ulp`, the share
    of steps that rounding to the nearest would lose; the optimizer works in float32 in any case.

    Args:
      method: what to minimise.
      apply_fn: the model, `(params, batch) -> ModelOutput`; with `frozen` it takes three arguments.
      optimizer: an optax transformation.
      mesh: the device mesh; batch rows are divided over its data and fsdp axes.
      shardings: the tree of shardings that `init_state` returned; None lets the compiler choose.
      frozen: weights that stay as they are, under adapters say: no gradient of theirs is made, and
        they are neither copied nor consumed.
      trainable: which of the state's weights are trained; the others stay as they are, without a
        gradient. `init_state` needs the same.
      seed: of a random key that `apply_fn` then gets as `key`, for dropout; the key of an update
        depends on the seed and the update's number alone.
      rounding_seed: of the rounding of bfloat16 weights, in the same way.
      microbatches: parts that a batch is cut into, one after the other, to save memory; loss and
        gradients are those of the whole batch. Rows so many apart form a part; a method that joins
        two answers to a question needs both in one.

    Returns:
      A jitted function; it consumes the state it is given (its buffers are donated). Its `lower`
      takes shapes, to compile ahead of time.

    """
    rho = radius_of(method)

    def step(state: TrainState, batch: Batch, *frozen: Any) -> tuple[TrainState, Metrics]:
        batch = weighed(method, batch)
        counts = count_sets(batch)
        trained = trainable.pick(state.params)

        def loss_of(
            method: Method, trained: Any, part: Batch, number: Any, *, logged: Method | None = None
        ) -> tuple[Float[Array, ""], Metrics]:
            keys = {}
            if seed is not None:
                key = jax.random.fold_in(jax.random.key(seed), state.step)
                keys["key"] = key if microbatches == 1 else jax.random.fold_in(key, number)
            return batch_loss(
                method,
                apply_fn(trainable.put(state.params, trained), part, *frozen, **keys),
                part,
                mesh,
                ref_head=state.ref_head,
                method_state=state.method_state,
                counts=counts,
                logged=logged,
            )

        def gradients(part: Batch, number: Any) -> Sums:
            loss = partial(loss_of, method, part=part, number=number)
            (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(trained)
            return Sums(value, widen(grads), metrics)

        summed = partial(accumulate, batch=batch, parts=microbatches)
        key = jax.random.fold_in(jax.random.key(rounding_seed), state.step)
        if rho is None:
            loss, grads, metrics = summed(gradients)
        else:
            assert isinstance(method, Unlearning)  # or it had no radius
            loss, grads, metrics = sharp_gradients(
                method, loss_of, trained, summed, rho=rho, key=jax.random.fold_in(key, UPHILL)
            )
        method_state = state.method_state
        if isinstance(method, Structured):
            # Once an update, from the numbers of the whole batch.
            method_state = method.advance(method_state, metrics, state.step)
        return _moved(
            state, trained, (loss, grads, metrics), method_state, optimizer, trainable, key
        )

    whole = NamedSharding(mesh, PartitionSpec())
    others = () if frozen is None else (frozen,)
    options = {}
    if shardings is not None:
        options["in_shardings"] = (shardings, None, *(None for _ in others))
        options["out_shardings"] = (shardings, whole)
    compiled = jax.jit(step, donate_argnums=0, **options)
    # An argument and no closure: constants would be copied into the program.
    return compiled if frozen is None else _WithFrozen(compiled, frozen)


class _WithFrozen(NamedTuple):
    """A jitted step and the frozen weights that it is called with."""

    compiled: Any
    frozen: Any

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return self.compiled(state, batch, self.frozen)

    def lower(self, state: Any, batch: Any) -> Any:
        """As that of a jitted function."""
        return self.compiled.lower(state, batch, self.frozen)


def _moved(
    state: TrainState,
    trained: Any,
    sums: tuple[Array, Any, Metrics],
    method_state: Any,
    optimizer: optax.GradientTransformation,
    trainable: Trainable,
    key: Array,
) -> tuple[TrainState, Metrics]:
    """The state after an update along the gradients, or as it was if they are not finite."""
    loss, grads, metrics = sums
    norm = optax.tree.norm(grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, widen(trained))
    updates = trainable.scale(updates)
    small = below_ulp(trained, updates)
    new = add_updates(trained, updates, key), opt_state, method_state
    old = trained, state.opt_state, state.method_state
    fine = jnp.isfinite(loss) & jnp.isfinite(norm)
    trained, opt_state, method_state = jax.tree.map(partial(jnp.where, fine), new, old)
    state = _counted(
        fine,
        replace(
            state,
            params=trainable.put(state.params, trained),
            opt_state=opt_state,
            method_state=method_state,
        ),
    )
    metrics |= {"grad_norm": norm, "skipped": state.skipped.astype(jnp.float32)}
    return state, metrics if small is None else metrics | {"below_ulp": small}


def _counted(fine: Array, state: TrainState) -> TrainState:
    """One more update done, or skipped."""
    one = 1 - fine.astype(jnp.int32)
    return replace(
        state,
        step=state.step + 1,
        skipped=state.skipped + one,
        skipped_in_a_row=one * (state.skipped_in_a_row + 1),
    )
