# SPDX-License-Identifier: Apache-2.0
"""The optimizer of a stage: AdamW with warm-up, decay and clipping."""

from typing import Any, Literal

import jax
import optax


def make_optimizer(
    steps: int,
    *,
    learning_rate: float,
    schedule: Literal["constant", "linear", "cosine"] = "linear",
    warmup: float = 0.1,
    weight_decay: float = 0.01,
    clip: float | None = 1.0,
) -> optax.GradientTransformation:
    """AdamW (betas 0.9 and 0.999); only kernels and embeddings are decayed.

    Args:
      steps: number of updates, which the schedule spans.
      learning_rate: peak learning rate.
      schedule: shape after the warm-up.
      warmup: share of the updates that warm up.
      weight_decay: decoupled weight decay.
      clip: largest global gradient norm; None does not clip.

    """
    parts = [] if clip is None else [optax.clip_by_global_norm(clip)]
    rate = make_schedule(steps, learning_rate=learning_rate, schedule=schedule, warmup=warmup)
    parts.append(optax.adamw(rate, weight_decay=weight_decay, mask=_decayed))
    return optax.chain(*parts)


def make_schedule(
    steps: int, *, learning_rate: float, schedule: str = "linear", warmup: float = 0.1
) -> optax.Schedule:
    """Linear warm-up, then constant, linear or cosine decay to zero.

    Example:
      >>> rate = make_schedule(10, learning_rate=1.0, schedule="linear", warmup=0.2)
      >>> [round(float(rate(i)), 3) for i in (0, 1, 2, 6, 10)]
      [0.5, 1.0, 1.0, 0.5, 0.0]

    """
    rising = round(warmup * steps)
    rest = max(1, steps - rising)
    after: optax.Schedule
    if schedule == "constant":
        after = optax.constant_schedule(learning_rate)
    elif schedule == "linear":
        after = optax.linear_schedule(learning_rate, 0.0, rest)
    elif schedule == "cosine":
        after = optax.cosine_decay_schedule(learning_rate, rest)
    else:
        raise ValueError(f"schedule must be constant, linear or cosine, got {schedule!r}.")
    if rising == 0:
        return after
    # The first update runs at peak/rising: at a rate of zero it would change nothing.
    rise = optax.linear_schedule(learning_rate / rising, learning_rate, max(1, rising - 1))
    return optax.join_schedules([rise, after], [rising])


def count_steps(rows: int, *, batch_size: int, steps: int | None, epochs: float) -> int:
    """Number of updates: `steps`, or else `epochs` passes over the rows, rounded up.

    Example:
      >>> count_steps(400, batch_size=32, steps=None, epochs=5.0)
      63

    """
    if steps is not None:
        return steps
    return max(1, -(-round(epochs * rows) // batch_size))


def _decayed(params: Any) -> Any:
    """True where weight decay applies: kernels and embeddings, by the name of the leaf."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: getattr(path[-1], "key", "") in ("kernel", "embedding"), params
    )
