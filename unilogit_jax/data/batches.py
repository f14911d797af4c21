# SPDX-License-Identifier: Apache-2.0
"""Which rows make up update i: a pure function of (seed, i), so one integer resumes a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Int

from unilogit_jax.data.assemble import assemble, assemble_packed
from unilogit_jax.data.encode import Rows
from unilogit_jax.data.packing import Packing, balanced_order, plan_packing
from unilogit_jax.types import ALTERNATE, FORGET, RETAIN, RETAIN_ALTERNATE, Batch

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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Stream:
    """Rows of one set, of which every update takes some."""

    rows: Rows
    which: int
    size: int
    seed: int
    number: int
    sampling: Sampling = "cycled"
    balanced: bool = False
    references: Mapping[str, np.ndarray] = field(default_factory=dict)

    def picks(self, i: int) -> Int[np.ndarray, " N"]:
        """The rows of update i."""
        rows, start = len(self.rows), self._start(i)
        lengths = self.rows.lengths if self.balanced else None
        return row_order(
            rows, start, self.size, seed=self.seed, stream=self.number, balance=lengths
        )

    def passes(self, i: int) -> Int[np.ndarray, " N"]:
        """For each row of update i, how often all rows were gone through before."""
        return (self._start(i) + np.arange(self.size)) // len(self.rows)

    def _start(self, i: int) -> int:
        if self.sampling == "cycled":
            return i * self.size
        # Every update begins a pass of its own, or several.
        rows = len(self.rows)
        return i * rows * -(-self.size // rows)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Answers:
    """Other answers to the questions of a stream, row by row; some for each question, in turn."""

    rows: Rows
    which: int
    leader: _Stream
    references: Mapping[str, np.ndarray] = field(default_factory=dict)

    def picks(self, i: int) -> Int[np.ndarray, " N"]:
        """The rows of update i: a question's next answer in every pass."""
        choices = len(self.rows) // len(self.leader.rows)
        return self.leader.picks(i) * choices + self.leader.passes(i) % choices


_AnyStream = _Stream | _Answers


@dataclass(frozen=True)
class Batches:
    """The function i -> batch of a stage."""

    streams: tuple[_AnyStream, ...]
    packing: Packing | None = None
    """The shape of packed rows; None: one example per row."""

    def __call__(self, i: int) -> Batch:
        """The batch of update i."""
        picked = [(stream, stream.picks(i)) for stream in self.streams]
        sets = np.concatenate([np.full(len(p), s.which, np.int32) for s, p in picked])
        parts = [(s.rows, p, dict(s.references)) for s, p in picked]
        partners = self._partners([len(p) for _, p in picked])
        if self.packing is None:
            return assemble(parts, sets, partners)
        return assemble_packed(parts, sets, self.packing, partners)

    def _partners(self, sizes: Sequence[int]) -> Int[np.ndarray, " B"] | None:
        """The number, from 1, of the example that answers each example's question otherwise."""
        if not any(isinstance(stream, _Answers) for stream in self.streams):
            return None
        firsts = np.concatenate([[1], 1 + np.cumsum(sizes)])
        partners = np.zeros(sum(sizes), np.int32)
        for k, stream in enumerate(self.streams):
            if isinstance(stream, _Answers) and stream.leader in self.streams:
                at = self.streams.index(stream.leader)
                for a, b in ((k, at), (at, k)):
                    partners[firsts[a] - 1 : firsts[a + 1] - 1] = np.arange(
                        firsts[b], firsts[b + 1]
                    )
        return partners


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
    references: Mapping[int, Mapping[str, np.ndarray]] | None = None,
    alternates: Mapping[int, Rows] | None = None,
    with_forget: bool = True,
) -> Batches:
    """The batches of an unlearning stage: forget rows first, then retain rows.

    Alternate answers stand behind the rows whose questions they answer.

    Args:
      forget: rows to forget.
      retain: rows to keep, or None.
      batch_size: forget rows per update.
      retain_size: retain rows per update.
      seed: seed of both orders.
      sampling: whether retain rows are gone through pass by pass, or drawn anew for every update.
      packing: puts several examples into one row.
      references: set -> what is known of each position of its rows, by the names of `Batch`.
      alternates: ALTERNATE and RETAIN_ALTERNATE -> other answers to the questions of forget and
        retain rows: equally many for each, those of a question together.
      with_forget: whether the forget rows themselves are there.

    """
    known, others = references or {}, alternates or {}
    balanced = packing is not None

    def stream(rows: Rows, which: int, size: int, number: int, sampling: Sampling) -> _Stream:
        return _Stream(
            rows=rows,
            which=which,
            size=size,
            seed=seed,
            number=number,
            sampling=sampling,
            balanced=balanced,
            references=known.get(which, {}),
        )

    leaders = [(stream(forget, FORGET, batch_size, FORGET_STREAM, "cycled"), ALTERNATE)]
    if retain is not None and retain_size > 0:
        own = stream(retain, RETAIN, retain_size, RETAIN_STREAM, sampling)
        leaders.append((own, RETAIN_ALTERNATE))
    streams: list[_AnyStream] = []
    for leader, which in leaders:
        if with_forget or leader.which != FORGET:
            streams.append(leader)
        if which in others:
            more = known.get(which, {})
            answers = _Answers(rows=others[which], which=which, leader=leader, references=more)
            streams.append(answers)
    return _batches(tuple(streams), packing)


def _batches(streams: tuple[_AnyStream, ...], wish: PackingWish | None) -> Batches:
    if wish is None:
        return Batches(streams)
    updates = [_lengths(streams, i) for i in range(wish.updates)]
    return Batches(streams, plan_packing(updates, length=wish.length, multiple=wish.multiple))


def _lengths(streams: Sequence[_AnyStream], i: int) -> Int[np.ndarray, " B"]:
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
