# SPDX-License-Identifier: Apache-2.0
"""Which rows make up update i: a pure function of (seed, i), so one integer resumes a run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from unilogit_jax.data.assemble import assemble, assemble_packed
from unilogit_jax.data.encode import Rows
from unilogit_jax.data.packing import Packing, balanced_order, plan_packing
from unilogit_jax.types import FORGET, RETAIN, Batch

FORGET_STREAM, RETAIN_STREAM = 0, 1
Sampling = Literal["cycled", "drawn"]


@dataclass(frozen=True, kw_only=True)
class PackingWish:
    """Asks for several examples in a row; the shape is planned for a stage's updates at once."""

    updates: int
    """Updates of the stage."""
    length: int = 1024
    """Positions per row, roughly: rows become as short as their number allows."""
    multiple: int = 1
    """The number of rows becomes a multiple of this."""


@dataclass(frozen=True, kw_only=True)
class _Stream:
    """Rows of one set, of which every update takes some."""

    rows: Rows
    which: int
    size: int
    seed: int
    number: int
    sampling: Sampling = "cycled"
    balanced: bool = False
    references: dict[str, np.ndarray] = field(default_factory=dict)

    def picks(self, i: int) -> Int[np.ndarray, " N"]:
        """The rows of update i."""
        rows, start = len(self.rows), i * self.size
        if self.sampling == "drawn":
            # Every update begins a pass of its own, or several.
            start = i * rows * -(-self.size // rows)
        lengths = self.rows.lengths if self.balanced else None
        return row_order(
            rows, start, self.size, seed=self.seed, stream=self.number, balance=lengths
        )


@dataclass(frozen=True)
class Batches:
    """The function i -> batch of a stage."""

    streams: tuple[_Stream, ...]
    packing: Packing | None = None
    """The shape of packed rows; None: one example per row."""

    def __call__(self, i: int) -> Batch:
        """The batch of update i."""
        picked = [(stream, stream.picks(i)) for stream in self.streams]
        sets = np.concatenate([np.full(len(p), s.which, np.int32) for s, p in picked])
        parts = [(s.rows, p, s.references) for s, p in picked]
        if self.packing is None:
            return assemble(parts, sets)
        return assemble_packed(parts, sets, self.packing)


def row_order(
    rows: int,
    start: int,
    count: int,
    *,
    seed: int,
    stream: int,
    balance: Int[np.ndarray, " N"] | None = None,
) -> Int[np.ndarray, " M"]:
    """Rows at positions start..start+count of an endless stream of shuffled passes over all rows.

    Every pass holds each row once, in an order that depends on (seed, stream, pass) alone. With
    their lengths as `balance` it also depends on these and on `count`: any `count` neighbours of a
    pass then have much the same number of tokens in all.

    Example:
      >>> sorted(row_order(4, 0, 4, seed=0, stream=0).tolist())
      [0, 1, 2, 3]

    """
    positions = np.arange(start, start + count)
    passes = {
        int(k): _pass(rows, seed, stream, int(k), balance, count)
        for k in np.unique(positions // rows)
    }
    return np.array([passes[int(p // rows)][p % rows] for p in positions], np.int32)


def finetune_batches(
    rows: Rows, *, batch_size: int, seed: int, packing: PackingWish | None = None
) -> Batches:
    """The batches of a finetuning stage: all rows count as rows to keep.

    Args:
      rows: rows to learn.
      batch_size: rows per update.
      seed: seed of their order.
      packing: puts several examples into one row.

    """
    stream = _Stream(
        rows=rows,
        which=RETAIN,
        size=batch_size,
        seed=seed,
        number=RETAIN_STREAM,
        balanced=packing is not None,
    )
    return _batches((stream,), packing)


def unlearning_batches(
    forget: Rows,
    retain: Rows | None,
    *,
    batch_size: int,
    retain_size: int,
    seed: int,
    sampling: Sampling = "cycled",
    packing: PackingWish | None = None,
    ref_log_odds: Float[np.ndarray, "B L"] | None = None,
    ref_hidden: Float[np.ndarray, "B L D"] | None = None,
) -> Batches:
    """The batches of an unlearning stage: forget rows first, then retain rows.

    Args:
      forget: rows to forget.
      retain: rows to keep, or None.
      batch_size: forget rows per update.
      retain_size: retain rows per update.
      seed: seed of both orders.
      sampling: whether retain rows are gone through pass by pass, or drawn anew for every update.
      packing: puts several examples into one row.
      ref_log_odds: per forget row, what the reference model says of its labels.
      ref_hidden: per forget row, the reference model's hidden states.

    """
    given = {"ref_log_odds": ref_log_odds, "ref_hidden": ref_hidden}
    streams = [
        _Stream(
            rows=forget,
            which=FORGET,
            size=batch_size,
            seed=seed,
            number=FORGET_STREAM,
            balanced=packing is not None,
            references={name: x for name, x in given.items() if x is not None},
        )
    ]
    if retain is not None and retain_size > 0:
        streams.append(
            _Stream(
                rows=retain,
                which=RETAIN,
                size=retain_size,
                seed=seed,
                number=RETAIN_STREAM,
                sampling=sampling,
                balanced=packing is not None,
            )
        )
    return _batches(tuple(streams), packing)


def _batches(streams: tuple[_Stream, ...], wish: PackingWish | None) -> Batches:
    if wish is None:
        return Batches(streams)
    updates = [_lengths(streams, i) for i in range(wish.updates)]
    return Batches(streams, plan_packing(updates, length=wish.length, multiple=wish.multiple))


def _lengths(streams: Sequence[_Stream], i: int) -> Int[np.ndarray, " B"]:
    return np.concatenate([s.rows.lengths[s.picks(i)] for s in streams])


def _pass(
    rows: int,
    seed: int,
    stream: int,
    number: int,
    balance: Int[np.ndarray, " N"] | None,
    window: int,
) -> Int[np.ndarray, " N"]:
    rng = np.random.default_rng([seed, stream, number])
    return rng.permutation(rows) if balance is None else balanced_order(balance, window, rng)
