# SPDX-License-Identifier: Apache-2.0
"""The teacher-forced pass: one forward says how likely every token of every answer is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float

from unilogit_jax.data import Packing, Rows, assemble_packed, pack
from unilogit_jax.losses import cross_entropy_from_log_odds
from unilogit_jax.ops import GenericHead, HeadStats, generic_log_odds, label_log_odds
from unilogit_jax.sharding import fetch, head_sharding, put_batch
from unilogit_jax.types import IGNORE, RETAIN, Batch, ModelOutput


@dataclass(frozen=True)
class Scores:
    """What the pass says of the supervised tokens of each row, in their order.

    The tuples hold one array per row, of as many entries as the row has supervised tokens.
    """

    logprobs: tuple[Float[np.ndarray, " _"], ...]
    """log p of each label, at most 0."""
    hits: tuple[Bool[np.ndarray, " _"], ...]
    """Whether the label is the likeliest token."""
    means: tuple[Float[np.ndarray, " _"], ...] = ()
    """sum_k p_k log p_k, the expectation of log p; there are none if it was not asked for."""
    variances: tuple[Float[np.ndarray, " _"], ...] = ()
    """Variance of log p over the vocabulary, likewise."""

    @cached_property
    def nll(self) -> Float[np.ndarray, " B"]:
        """Mean negative log-likelihood of each row's tokens."""
        return np.array([-np.mean(x, dtype=np.float64) for x in self.logprobs])

    @cached_property
    def exact(self) -> Bool[np.ndarray, " B"]:
        """Whether greedy decoding gives the row: each token is the likeliest after those before."""
        return np.array([bool(x.all()) for x in self.hits])


T_co = TypeVar("T_co", covariant=True)


@runtime_checkable
class Pass(Protocol[T_co]):
    """What measures any weights of one model on any rows; compiled once."""

    def __call__(
        self, params: Any, rows: Rows, progress: Callable[[int, int], None] | None = None, /
    ) -> T_co:
        """Measures; `progress` is told how many rows are done, and of how many."""
        ...


def make_scorer(
    apply_fn: Callable[[Any, Batch], ModelOutput],
    *,
    batch_size: int,
    mesh: Mesh,
    moments: bool = False,
) -> Pass[Scores]:
    """Compiles the pass once; the function it returns scores any weights on any rows.

    Rows are packed: several short ones share the length of the longest.

    Args:
      apply_fn: the model, `(params, batch) -> ModelOutput`.
      batch_size: packed rows per forward pass.
      mesh: where to run.
      moments: find mean and variance of log p over the vocabulary too.

    """
    extras = ("hit", "logprob_moments") if moments else ("hit",)

    def forward(params: Any, batch: Batch) -> list[jax.Array]:
        stats = label_stats(apply_fn(params, batch), batch, mesh, extras=extras)
        found = [-cross_entropy_from_log_odds(stats.log_odds), stats.hit]
        if moments:
            found += [stats.logprob_mean, stats.logprob_var]
        return [jnp.asarray(x) for x in found]

    run = make_pass(forward, batch_size=batch_size, mesh=mesh)

    def score(
        params: Any, rows: Rows, progress: Callable[[int, int], None] | None = None, /
    ) -> Scores:
        return Scores(*run(params, rows, progress))

    return score


def make_pass(
    forward: Callable[[Any, Batch], Sequence[jax.Array]], *, batch_size: int, mesh: Mesh
) -> Pass[list[tuple[np.ndarray, ...]]]:
    """Compiles a pass over rows; the function it returns makes it with any weights over any rows.

    Args:
      forward: `(params, batch) -> arrays [B L ...]`, of a packed batch.
      batch_size: packed rows at a time.
      mesh: where to run.

    Returns:
      A function whose result is, for each of these arrays, row by row, its entries at the row's
      supervised tokens.

    """
    compiled = jax.jit(forward)

    def run(
        params: Any, rows: Rows, progress: Callable[[int, int], None] | None = None, /
    ) -> list[tuple[np.ndarray, ...]]:
        batch, places, size = _pack(rows, batch_size, mesh.shape["data"] * mesh.shape["fsdp"])
        chunks: list[list[np.ndarray]] = []
        packed = len(batch.tokens)
        for start in range(0, packed, size):
            some = jax.tree.map(lambda x, at=start: x[at : at + size], batch)
            chunks.append([fetch(x) for x in compiled(params, put_batch(some, mesh))])
            if progress is not None:
                progress(len(rows) * (start + size) // packed, len(rows))
        columns = [np.concatenate(parts) for parts in zip(*chunks, strict=True)]
        return [tuple(values[at] for at in places) for values in columns]

    return run


def label_stats(
    output: ModelOutput, batch: Batch, mesh: Mesh, *, extras: tuple[str, ...] = ()
) -> HeadStats:
    """What the head, or two read as one, says of the labels."""
    head, labels = output.head, (batch.labels, batch.weights)
    if isinstance(head, GenericHead):
        sharding = head_sharding(head.base, output.hidden.shape, mesh)
        return generic_log_odds(output.hidden, head, *labels, extras=extras, sharding=sharding)
    sharding = head_sharding(head, output.hidden.shape, mesh)
    return label_log_odds(output.hidden, head, *labels, extras=extras, sharding=sharding)


Place = tuple[np.ndarray, np.ndarray]
"""Row and columns of one example's supervised tokens, as an index."""


def _pack(rows: Rows, most: int, devices: int) -> tuple[Batch, list[Place], int]:
    """All rows packed, where each one's labels lie, and how many packed rows go at a time."""
    where, count = pack(rows.lengths, rows.length)
    size = min(most, -(-count // devices) * devices)
    shape = Packing(-(-count // size) * size, rows.length, 1.0)
    sets = np.full(len(rows), RETAIN, np.int32)
    batch = assemble_packed([(rows, np.arange(len(rows)), {})], sets, shape)
    places = []
    for row, start, labels in zip(where.rows, where.starts, rows.labels, strict=True):
        columns = np.flatnonzero(labels != IGNORE) + start
        places.append((np.full_like(columns, row), columns))
    # The number of examples is part of the compiled program's key, and nobody here reads it.
    return replace(batch, num_segments=0), places, size
