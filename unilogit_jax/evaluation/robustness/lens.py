# SPDX-License-Identifier: Apache-2.0
"""The logit lens: what every layer would answer if the head read it at once."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from unilogit_jax import metrics, models
from unilogit_jax.data import Rows
from unilogit_jax.evaluation.forced import Pass, label_stats, make_pass
from unilogit_jax.losses import cross_entropy_from_log_odds
from unilogit_jax.types import Batch


def make_lens(
    model: models.Decoder, *, batch_size: int, mesh: Mesh
) -> Pass[Float[np.ndarray, " layers"]]:
    """Compiles one pass; the function it returns says what each layer holds of the rows' answers.

    p_l = mean over rows of exp(mean over the answer's tokens of log p_l(token)), where p_l =
    softmax(head(norm(h_l))) reads the stream behind layer l through the final norm and the head

    The logits of no layer are kept: each takes one pass of the fused head.

    Args:
      model: the decoder.
      batch_size: packed rows of a pass that holds one layer; this one holds all, and takes as many
        times fewer rows.
      mesh: where to run.

    Returns:
      A function of weights and rows. What it says of the last layer is the probability that the
      model itself gives.

    Reference: nostalgebraist 2020, "interpreting GPT: the logit lens".
    """
    apply = models.apply_fn(model.clone(every_layer=True))
    devices = mesh.shape["data"] * mesh.shape["fsdp"]
    size = max(1, batch_size // (model.config.layers * devices)) * devices

    def forward(params: Any, batch: Batch) -> list[Array]:
        output = apply(params, batch)
        assert output.layers is not None

        def nll(hidden: Array) -> Array:
            stats = label_stats(replace(output, hidden=hidden), batch, mesh)
            return cross_entropy_from_log_odds(stats.log_odds)

        return [jnp.moveaxis(jax.lax.map(nll, jnp.stack(output.layers)), 0, -1)]

    run = make_pass(forward, batch_size=size, mesh=mesh)

    def look(
        params: Any, rows: Rows, progress: Callable[[int, int], None] | None = None, /
    ) -> Float[np.ndarray, " layers"]:
        (tokens,) = run(params, rows, progress)
        means = np.stack([x.mean(axis=0, dtype=np.float64) for x in tokens])
        return np.array([metrics.probability(layer).mean() for layer in means.T])

    return look
