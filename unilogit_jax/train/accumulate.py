# SPDX-License-Identifier: Apache-2.0
"""Gradients of a batch as sums over its parts, one part after the other."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from unilogit_jax.train.objective import Metrics
from unilogit_jax.types import Batch


class Sums(NamedTuple):
    """What adds up over the parts of a batch."""

    loss: Float[Array, ""]
    grads: Any
    metrics: Metrics


def accumulate(gradients: Callable[[Batch, Any], Sums], batch: Batch, parts: int) -> Sums:
    """The sums over the parts of a batch, one after the other.

    Args:
      gradients: of a part and its number.
      batch: the whole batch.
      parts: how many it is cut into; rows so many apart form a part.

    Raises:
      ValueError: the rows cannot be divided into so many.

    """
    if parts == 1:
        return gradients(batch, 0)
    cut = jax.tree.map(partial(_cut, parts=parts), batch), jnp.arange(parts)
    one = jax.eval_shape(gradients, *jax.tree.map(lambda x: x[0], cut))
    start = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), one)

    def body(total: Sums, part: Any) -> tuple[Sums, None]:
        return jax.tree.map(jnp.add, total, gradients(*part)), None

    return jax.lax.scan(body, start, cut)[0]


def _cut(x: Array, *, parts: int) -> Array:
    """Rows parts apart from each other, so that every device keeps the rows it has."""
    rows = len(x)
    if rows % parts:
        raise ValueError(
            f"a batch of {rows} rows cannot be cut into {parts} equal microbatches; choose a "
            "divisor of its number of rows"
        )
    return jnp.moveaxis(x.reshape(rows // parts, parts, *x.shape[1:]), 1, 0)
