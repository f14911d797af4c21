# SPDX-License-Identifier: Apache-2.0
"""What the losses share: a derivative given by hand, and which positions are supervised."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from unilogit_jax.ops import log_odds
from unilogit_jax.types import IGNORE


def with_slope(
    m: Float[Array, "*T"], value: Float[Array, "*T"], slope: Float[Array, "*T"]
) -> Float[Array, "*T"]:
    """`value`, with derivative `slope` with respect to `m` in place of its own.

    Autodiff of the values loses digits: it multiplies sigmoid(m) by 1 - sigmoid(m), which cancels
    for a label the model is sure of. `slope` may be differentiated again.

    Args:
      m: log-odds the loss depends on.
      value: the loss.
      slope: its derivative dL/dm.

    Returns:
      `value`, unchanged.

    Example:
      >>> jax.grad(lambda m: with_slope(m, m**2, jnp.float32(7.0)))(jnp.float32(1.0)).item()
      7.0

    """
    return _with_slope(m, jax.lax.stop_gradient(value), slope)


def supervised(
    labels: Int[Array, "*T"], mask: Shaped[Array, "*T"] | None, vocab_size: int
) -> Bool[Array, "*T"]:
    """Positions that count: a label inside the vocabulary, and a mask that is not 0.

    Args:
      labels: index of the observed token.
      mask: nonzero where a position counts; None counts all.
      vocab_size: number of logit columns.

    Returns:
      Booleans [*T].

    Example:
      >>> supervised(jnp.array([3, -100, 9]), None, 5)
      Array([ True, False, False], dtype=bool)

    """
    valid = (labels >= 0) & (labels.astype(jnp.int32) < vocab_size)
    return valid if mask is None else valid & mask.astype(bool)


def per_token(
    phi: Callable[[Array], Array],
    logits: Float[Array, "*T V"],
    labels: Int[Array, "*T"],
    mask: Shaped[Array, "*T"] | None,
) -> Float[Array, "*T"]:
    """A loss of the log-odds at supervised positions, 0 without gradient elsewhere.

    Args:
      phi: the loss as a function of the log-odds.
      logits: scores of every vocabulary entry.
      labels: index of the observed token.
      mask: nonzero where a position counts; None counts all.

    Returns:
      Values [*T], float32.

    Example:
      >>> per_token(lambda m: m + 1, jnp.zeros((2, 2)), jnp.array([0, -100]), None)
      Array([1., 0.], dtype=float32)

    """
    valid = supervised(labels, mask, logits.shape[-1])
    m = log_odds(logits, jnp.where(valid, labels.astype(jnp.int32), IGNORE))
    return jnp.where(valid, phi(m), 0.0)


@jax.custom_jvp
def _with_slope(m: Array, value: Array, slope: Array) -> Array:
    del m, slope
    return value


@_with_slope.defjvp
def _with_slope_jvp(primals, tangents):
    _, value, slope = primals
    return value, slope * tangents[0]
