# SPDX-License-Identifier: Apache-2.0
"""Which rows make up update i: a pure function of (seed, i), so one integer resumes a run."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from unilogit_jax.data.encode import Rows
from unilogit_jax.types import FORGET, IGNORE, RETAIN, Batch

FORGET_STREAM, RETAIN_STREAM = 0, 1


def row_order(
    rows: int, start: int, count: int, *, seed: int, stream: int
) -> Int[np.ndarray, " N"]:
    """Rows at positions start..start+count of an endless stream of shuffled passes over all rows.

    Every pass holds each row once, in an order that depends on (seed, stream, pass) alone.

    Example:
      >>> sorted(row_order(4, 0, 4, seed=0, stream=0).tolist())
      [0, 1, 2, 3]

    """
    positions = np.arange(start, start + count)
    passes = {
        int(k): np.random.default_rng([seed, stream, int(k)]).permutation(rows)
        for k in np.unique(positions // rows)
    }
    return np.array([passes[int(p // rows)][p % rows] for p in positions], np.int32)


def finetune_batches(rows: Rows, *, batch_size: int, seed: int) -> Callable[[int], Batch]:
    """The function i -> batch of a finetuning stage: all rows count as rows to keep."""

    def batch_at(i: int) -> Batch:
        picked = row_order(len(rows), i * batch_size, batch_size, seed=seed, stream=RETAIN_STREAM)
        sets = np.full(batch_size, RETAIN, np.int32)
        return assemble(rows.tokens[picked], rows.labels[picked], rows.lengths[picked], sets)

    return batch_at


def unlearning_batches(
    forget: Rows,
    retain: Rows | None,
    *,
    batch_size: int,
    retain_size: int,
    seed: int,
    ref_log_odds: Float[np.ndarray, "B L"] | None = None,
    ref_hidden: Float[np.ndarray, "B L D"] | None = None,
) -> Callable[[int], Batch]:
    """The function i -> batch of an unlearning stage: forget rows first, then retain rows.

    Args:
      forget: rows to forget.
      retain: rows to keep, or None.
      batch_size: forget rows per update.
      retain_size: retain rows per update.
      seed: seed of both orders.
      ref_log_odds: per forget row, what the reference model says of its labels.
      ref_hidden: per forget row, the reference model's hidden states.

    """
    if retain is None or retain_size == 0:
        retain, retain_size = forget, 0
    length = max(forget.length, retain.length)
    sets = np.repeat(np.array([FORGET, RETAIN], np.int32), [batch_size, retain_size])

    def batch_at(i: int) -> Batch:
        f = row_order(len(forget), i * batch_size, batch_size, seed=seed, stream=FORGET_STREAM)
        r = row_order(len(retain), i * retain_size, retain_size, seed=seed, stream=RETAIN_STREAM)

        def both(name: str, fill: int) -> np.ndarray:
            return np.concatenate(
                [
                    _widen(getattr(forget, name)[f], length, fill),
                    _widen(getattr(retain, name)[r], length, fill),
                ]
            )

        def reference(values: np.ndarray | None) -> np.ndarray | None:
            if values is None:
                return None
            picked = _widen(values[f], length, 0)
            return np.concatenate(
                [picked, np.zeros((retain_size, *picked.shape[1:]), picked.dtype)]
            )

        return assemble(
            both("tokens", 0),
            both("labels", IGNORE),
            np.concatenate([forget.lengths[f], retain.lengths[r]]),
            sets,
            ref_log_odds=reference(ref_log_odds),
            ref_hidden=reference(ref_hidden),
        )

    return batch_at


def assemble(
    tokens: Int[np.ndarray, "B L"],
    labels: Int[np.ndarray, "B L"],
    lengths: Int[np.ndarray, " B"],
    sets: Int[np.ndarray, " B"],
    *,
    ref_log_odds: Float[np.ndarray, "B L"] | None = None,
    ref_hidden: Float[np.ndarray, "B L D"] | None = None,
) -> Batch:
    """A Batch with one example per row."""
    rows, length = tokens.shape
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), (rows, length))
    real = positions < lengths[:, None]
    arrays: dict[str, Any] = {
        "tokens": tokens,
        "labels": labels,
        "segments": np.where(real, np.arange(1, rows + 1, dtype=np.int32)[:, None], 0),
        "positions": np.ascontiguousarray(positions),
        "sets": np.where(real, sets[:, None], 0),
        "weights": (labels != IGNORE).astype(np.float32),
        "ref_log_odds": ref_log_odds,
        "ref_hidden": ref_hidden,
    }
    return Batch(**arrays, num_segments=rows + 1)


def _widen(values: np.ndarray, length: int, fill: int) -> np.ndarray:
    """Pads the second axis to `length`."""
    missing = length - values.shape[1]
    pad = [(0, 0), (0, missing), *([(0, 0)] * (values.ndim - 2))]
    return np.pad(values, pad, constant_values=fill) if missing else values
