# SPDX-License-Identifier: Apache-2.0
"""What the losses share: which positions are supervised, and a loss of the log-odds there."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from unilogit_jax.ops import log_odds
from unilogit_jax.types import IGNORE


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
