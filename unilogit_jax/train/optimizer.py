# SPDX-License-Identifier: Apache-2.0
"""The optimizer of a stage: AdamW, Adafactor, Lion or SGD, with warm-up, decay and clipping."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


def make_optimizer(
    steps: int,
    *,
    learning_rate: float,
    name: str = "adamw",
    schedule: Literal["constant", "linear", "cosine"] = "linear",
    warmup: float = 0.1,
    weight_decay: float = 0.01,
    clip: float | None = 1.0,
) -> optax.GradientTransformation:
    """An optimizer whose updates are `-rate (direction + weight_decay w)`.

    Only kernels and embeddings are decayed. Floats kept per weight: adamw 2, lion 1, adafactor 1
    per row and column, sgd none. Number of updates, peak and warm-up are in the optimizer's state,
    so that runs which differ in them alone share a compiled update.

    Args:
      steps: number of updates, which the schedule spans.
      learning_rate: peak learning rate.
      name: "adamw" (betas 0.9 and 0.999), "adafactor" (factored second moments, updates clipped to
        a root mean square of 1, not scaled by the weights), "lion" (betas 0.9 and 0.99; needs a
        rate about ten times smaller), or "sgd" without momentum.
      schedule: shape after the warm-up.
      warmup: share of the updates that warm up.
      weight_decay: decoupled weight decay.
      clip: largest global gradient norm; None does not clip.

    Raises:
      ValueError: an unknown name or schedule.

    """
    _check_schedule(schedule)
    directions = {
        "adamw": [optax.scale_by_adam()],
        "adafactor": [optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0)],
        "lion": [optax.scale_by_lion()],
        "sgd": [],
    }
    if name not in directions:
        raise ValueError(f"optimizer {name!r} is unknown; use one of {', '.join(directions)}.")
    return optax.chain(
        *([] if clip is None else [optax.clip_by_global_norm(clip)]),
        *directions[name],
        optax.add_decayed_weights(weight_decay, mask=_decayed),
        _scale_by_rate(lambda: _Plan.of(steps, learning_rate, warmup), schedule),
    )


def make_schedule(
    steps: int, *, learning_rate: float, schedule: str = "linear", warmup: float = 0.1
) -> optax.Schedule:
    """Linear warm-up, then constant, linear or cosine decay to zero.

    Example:
      >>> rate = make_schedule(10, learning_rate=1.0, schedule="linear", warmup=0.2)
      >>> [round(float(rate(i)), 3) for i in (0, 1, 2, 6, 10)]
      [0.5, 1.0, 1.0, 0.5, 0.0]

    """
    _check_schedule(schedule)
    plan = _Plan.of(steps, learning_rate, warmup)
    return lambda count: _rate(plan._replace(step=jnp.int32(count)), schedule)


def count_steps(rows: int, *, batch_size: int, steps: int | None, epochs: float) -> int:
    """Number of updates: `steps`, or else `epochs` passes over the rows, rounded up.

    Example:
      >>> count_steps(400, batch_size=32, steps=None, epochs=5.0)
      63

    """
    if steps is not None:
        return steps
    return max(1, -(-round(epochs * rows) // batch_size))


class _Plan(NamedTuple):
    """Where in its schedule a run is, and what decides the schedule."""

    step: Int[Array, ""]
    peak: Float[Array, ""]
    rising: Float[Array, ""]
    """Updates that warm up."""
    rest: Float[Array, ""]

    @classmethod
    def of(cls, steps: int, learning_rate: float, warmup: float) -> "_Plan":
        rising = round(warmup * steps)
        peak, rising, rest = jnp.float32([learning_rate, rising, max(1, steps - rising)])
        return cls(jnp.int32(0), peak, rising, rest)


def _rate(plan: _Plan, schedule: str) -> Float[Array, ""]:
    # The first update runs at peak/rising: at a rate of zero it would change nothing.
    warm = jnp.minimum(1.0, (plan.step + 1) / jnp.maximum(plan.rising, 1.0))
    done = jnp.clip((plan.step - plan.rising) / plan.rest, 0.0, 1.0)
    decay = {
        "constant": jnp.ones_like,
        "linear": lambda x: 1.0 - x,
        "cosine": lambda x: 0.5 * (1.0 + jnp.cos(jnp.pi * x)),
    }
    return plan.peak * warm * decay[schedule](done)


def _check_schedule(name: str) -> None:
    if name not in ("constant", "linear", "cosine"):
        raise ValueError(f"schedule must be constant, linear or cosine, got {name!r}.")


def _scale_by_rate(start: Callable[[], _Plan], schedule: str) -> optax.GradientTransformation:
    """Times minus the rate, whose numbers are the state and no constants of a program."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, _Plan]:
        rate = _rate(state, schedule)
        scaled = jax.tree.map(lambda x: -rate.astype(x.dtype) * x, updates)
        return scaled, state._replace(step=optax.safe_increment(state.step))

    return optax.GradientTransformation(lambda params: start(), update)


def _decayed(params: Any) -> Any:
    """True where weight decay applies: kernels and embeddings, by the name of the leaf."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: getattr(path[-1], "key", "") in ("kernel", "embedding"), params
    )
