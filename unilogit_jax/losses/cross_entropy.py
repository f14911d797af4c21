# SPDX-License-Identifier: Apache-2.0
"""Cross entropy, the negative log-likelihood of the label: the usual retain term."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from unilogit_jax.losses._common import per_token
from unilogit_jax.ops import with_slopes


def cross_entropy(
    logits: Float[Array, "*T V"],
    labels: Int[Array, "*T"],
    mask: Shaped[Array, "*T"] | None = None,
) -> Float[Array, "*T"]:
    """Negative log-likelihood of the label.

    -log p_y,    p = softmax(logits)

    Args:
      logits: scores of every vocabulary entry, any float dtype.
      labels: index of the observed token; positions outside 0..V-1 (such as -100) are ignored.
      mask: nonzero where a position counts; None counts all.

    Returns:
      One value per token, float32 [*T], 0 at positions that do not count; the caller averages.

    Example:
      >>> loss = cross_entropy(jnp.zeros((2, 4)), jnp.array([3, -100]))
      >>> print(f"{loss[0]:.4f} {loss[1]:.4f}")  # log 4, ignored
      1.3863 0.0000

    """
    return per_token(cross_entropy_from_log_odds, logits, labels, mask)


def cross_entropy_from_log_odds(log_odds: Float[Array, "*T"]) -> Float[Array, "*T"]:
    """Negative log-likelihood of the label, from its log-odds.

    softplus(-m),    dL/dm = -(1 - p) = -sigmoid(-m)

    Args:
      log_odds: m = z_y - logsumexp_{j != y} z_j.

    Returns:
      One value per token, float32 [*T].

    Example:
      >>> loss = cross_entropy_from_log_odds(jnp.array([0.0, jnp.inf]))
      >>> print(f"{loss[0]:.4f} {loss[1]:.4f}")
      0.6931 0.0000

    """
    m = log_odds.astype(jnp.float32)
    return with_slopes(m, jax.nn.softplus(-m), -jax.nn.sigmoid(-m))
