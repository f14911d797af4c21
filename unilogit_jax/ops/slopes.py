# SPDX-License-Identifier: Apache-2.0
"""A value whose derivative is given by hand."""

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def with_slopes(parts: Any, value: Float[Array, "*T"], slopes: Any) -> Float[Array, "*T"]:
    """`value`, with `slopes` as its derivative with respect to `parts` in place of its own.

    Autodiff of a loss loses digits: it multiplies sigmoid(m) by 1 - sigmoid(m), which cancels for a
    label the model is sure of. The slopes may be differentiated again.

    Args:
      parts: what the loss depends on, token by token: arrays [*T] or [*T k] in a tree.
      value: the loss.
      slopes: its derivatives, a tree like `parts`.

    Returns:
      `value`, unchanged.

    Example:
      >>> jax.grad(lambda m: with_slopes(m, m**2, jnp.float32(7.0)))(jnp.float32(1.0)).item()
      7.0

    """
    return _with_slopes(parts, jax.lax.stop_gradient(value), slopes)


@jax.custom_jvp
def _with_slopes(parts: Any, value: Array, slopes: Any) -> Array:
    del parts, slopes
    return value


@_with_slopes.defjvp
def _with_slopes_jvp(primals, tangents):
    _, value, slopes = primals
    terms = [s * t for s, t in zip(*map(jax.tree.leaves, (slopes, tangents[0])), strict=True)]
    per_token = [x if x.ndim == value.ndim else jnp.sum(x, axis=-1) for x in terms]
    return value, reduce(jnp.add, per_token)
