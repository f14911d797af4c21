# SPDX-License-Identifier: Apache-2.0
"""The optimizer of a stage: AdamW, Adafactor, Lion or SGD, with warm-up, decay and clipping."""

from typing import Any, Literal

import jax
import optax


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
    per row and column, sgd none.

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
    rate = make_schedule(steps, learning_rate=learning_rate, schedule=schedule, warmup=warmup)
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
        optax.scale_by_learning_rate(rate),
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
