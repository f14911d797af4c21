# SPDX-License-Identifier: Apache-2.0
"""The norm of every single example's gradient: a sign of what a model was trained on."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from unilogit_jax.data import Rows, assemble
from unilogit_jax.evaluation.forced import Pass
from unilogit_jax.losses import cross_entropy_from_log_odds
from unilogit_jax.ops import label_log_odds
from unilogit_jax.sharding import fetch, head_sharding, put_batch
from unilogit_jax.types import RETAIN, Batch, ModelOutput


def gradient_norms(
    apply_fn: Callable[[Any, Batch], ModelOutput], params: Any, rows: Rows, *, mesh: Mesh
) -> Float[np.ndarray, " B"]:
    """Mean over the weight tensors of the norm of each example's gradient.

    mean_w |d/dw mean_t(-log p_t)|_2,    w each weight matrix or vector of each layer

    One example at a time, so that the memory is that of one gradient. Tensors that are stacked over
    layers count once for each layer, as in code that keeps layers apart.

    Args:
      apply_fn: the model, `(params, batch) -> ModelOutput`.
      params: a dictionary; what lies below "layers" is stacked over layers.
      rows: the examples.
      mesh: where to run.

    Returns:
      One number per row, lower on what was trained on: the score of the attack GradNorm.

    Reference: Wang et al. 2024, arXiv:2402.03300; the mean over tensors is open-unlearning's.
    """
    return make_gradient_norms(apply_fn, mesh=mesh)(params, rows)


def make_gradient_norms(
    apply_fn: Callable[[Any, Batch], ModelOutput], *, mesh: Mesh
) -> Pass[Float[np.ndarray, " B"]]:
    """Compiles the backward pass once; the function it returns is `gradient_norms` of any weights.

    Args:
      apply_fn: the model, `(params, batch) -> ModelOutput`.
      mesh: where to run.

    """
    # Rows are divided over devices, so that many copies of the example make one batch.
    copies = mesh.shape["data"] * mesh.shape["fsdp"]

    @jax.jit
    def norm(params: Any, batch: Batch) -> Array:
        def loss(params: Any) -> Array:
            output = apply_fn(params, batch)
            sharding = head_sharding(output.head, output.hidden.shape, mesh)
            args = output.hidden, output.head, batch.labels, batch.weights
            nll = cross_entropy_from_log_odds(label_log_odds(*args, sharding=sharding).log_odds)
            on = batch.weights > 0
            return jnp.sum(jnp.where(on, nll, 0.0)) / jnp.maximum(jnp.sum(on), 1)

        return _mean_norm(jax.grad(loss)(params))

    def measure(
        params: Any, rows: Rows, progress: Callable[[int, int], None] | None = None, /
    ) -> np.ndarray:
        found = []
        for row in range(len(rows)):
            picked = np.full(copies, row)
            batch = assemble([(rows, picked, {})], np.full(copies, RETAIN, np.int32))
            found.append(fetch(norm(params, put_batch(batch, mesh))))
            if progress is not None:
                progress(row + 1, len(rows))
        return np.array(found, np.float64)

    return measure


def _mean_norm(gradient: dict[str, Any]) -> Array:
    """The mean over tensors of their norms."""

    def norms(stacked: bool, tree: Any) -> list[Array]:
        keep = 1 if stacked else 0
        squares = [x.astype(jnp.float32) ** 2 for x in jax.tree.leaves(tree)]
        return [jnp.sqrt(jnp.sum(x, axis=tuple(range(keep, x.ndim)))).ravel() for x in squares]

    parts = [x for name, tree in gradient.items() for x in norms(name == "layers", tree)]
    return jnp.mean(jnp.concatenate(parts))
