# SPDX-License-Identifier: Apache-2.0
"""The teacher-forced pass: one forward per row says how likely and how exact its answer is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float

from unilogit_jax.data import Rows, assemble
from unilogit_jax.losses import cross_entropy_from_log_odds
from unilogit_jax.ops import label_log_odds
from unilogit_jax.sharding import fetch, head_sharding, put_batch
from unilogit_jax.types import RETAIN, Batch, ModelOutput


@dataclass(frozen=True)
class Scores:
    """Per row: mean negative log-likelihood of the answer tokens, and whether all are the arg-max.

    The second is greedy exact match: greedy decoding reproduces an answer just if, given the answer
    so far, each next token is the arg-max.
    """

    nll: Float[np.ndarray, " B"]
    exact: Bool[np.ndarray, " B"]


def make_scorer(
    apply_fn: Callable[[Any, Batch], ModelOutput], *, batch_size: int, mesh: Mesh
) -> Callable[[Any, Rows], Scores]:
    """Compiles the pass once; the function it returns scores any weights on any rows."""

    @jax.jit
    def forward(params: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
        output = apply_fn(params, batch)
        stats = label_log_odds(
            output.hidden,
            output.head,
            batch.labels,
            batch.weights,
            extras=("hit",),
            sharding=head_sharding(output.head, output.hidden.shape, mesh),
        )
        assert stats.hit is not None  # it was asked for
        supervised = batch.weights > 0
        nll = jnp.where(supervised, cross_entropy_from_log_odds(stats.log_odds), 0.0)
        counts = jnp.maximum(jnp.sum(supervised, axis=1), 1)
        return jnp.sum(nll, axis=1) / counts, jnp.all(stats.hit | ~supervised, axis=1)

    def score(params: Any, rows: Rows) -> Scores:
        nll, exact = [], []
        for start in range(0, len(rows), batch_size):
            # The last batch is filled by repeating rows, so that one compilation serves all.
            picked = np.arange(start, start + batch_size) % len(rows)
            sets = np.full(batch_size, RETAIN, np.int32)
            batch = assemble([(rows, picked, {})], sets)
            values = forward(params, put_batch(batch, mesh))
            nll.append(fetch(values[0]).astype(np.float64))
            exact.append(fetch(values[1]))
        return Scores(np.concatenate(nll)[: len(rows)], np.concatenate(exact)[: len(rows)])

    return score
