# SPDX-License-Identifier: Apache-2.0
"""What a method needs of the frozen reference model, computed once before training."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from unilogit_jax.data import Rows, assemble
from unilogit_jax.methods import Method
from unilogit_jax.ops import label_log_odds
from unilogit_jax.sharding import fetch, head_sharding, put_batch
from unilogit_jax.train.objective import ApplyFn
from unilogit_jax.types import FORGET, Head


def blank_references(
    method: Method, rows: Rows, *, width: int, dtype: Any
) -> dict[str, Float[np.ndarray, "B ..."]]:
    """Zeros of the shapes that `reference_for` computes, for a plan.

    Args:
      method: its `needs` say which.
      rows: the forget rows.
      width: of the reference's hidden states.
      dtype: their type.

    """
    arrays = {
        "ref_log_odds": np.zeros(rows.tokens.shape, np.float32),
        "ref_hidden": np.zeros((*rows.tokens.shape, width), dtype),
    }
    return {name: arrays[name] for name in method.needs}


def reference_for(
    method: Method, apply_fn: ApplyFn, params: Any, rows: Rows, *, batch_size: int, mesh: Mesh
) -> tuple[dict[str, Float[np.ndarray, "B ..."]], Head | None]:
    """Runs the reference over the forget rows, once.

    Args:
      method: its `needs` say what to keep.
      apply_fn: the model, `(params, batch) -> ModelOutput`.
      params: the reference's weights.
      rows: the forget rows.
      batch_size: rows per forward pass.
      mesh: where to run.

    Returns:
      The arrays that `data.unlearning_batches` takes, and the reference's head where it is needed.

    """
    if not method.needs:
        return {}, None

    @jax.jit
    def forward(params, batch):
        output = apply_fn(params, batch)
        sharding = head_sharding(output.head, output.hidden.shape, mesh)
        stats = label_log_odds(
            output.hidden, output.head, batch.labels, batch.weights, sharding=sharding
        )
        return {"ref_log_odds": stats.log_odds, "ref_hidden": output.hidden}, output.head

    chunks: dict[str, list[np.ndarray]] = {name: [] for name in method.needs}
    head = None
    for start in range(0, len(rows), batch_size):
        # The last chunk is filled by repeating rows, so that one compilation serves all.
        picked = np.arange(start, start + batch_size) % len(rows)
        sets = np.full(batch_size, FORGET, np.int32)
        batch = assemble([(rows, picked, {})], sets)
        values, head = forward(params, put_batch(batch, mesh))
        for name, parts in chunks.items():
            parts.append(fetch(values[name]))
    arrays = {name: np.concatenate(parts)[: len(rows)] for name, parts in chunks.items()}
    return arrays, head if "ref_hidden" in method.needs else None
