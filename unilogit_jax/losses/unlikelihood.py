# SPDX-License-Identifier: Apache-2.0
"""Unlikelihood: the label's complement made likely (Welleck et al. 2019, arXiv:1908.04319)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from unilogit_jax.losses._common import per_token
from unilogit_jax.ops import with_slopes


def unlikelihood(
    logits: Float[Array, "*T V"],
    labels: Int[Array, "*T"],
    mask: Shaped[Array, "*T"] | None = None,
) -> Float[Array, "*T"]:
    """Negative log-probability of any other token than the label.

    -log(1 - p_y),    p = softmax(logits)

    Its gradient is also that of CE-U: the cross entropy of the model against its own distribution
    with the label taken out, held fixed.

    Args:
      logits: scores of every vocabulary entry, any float dtype; computed in float32.
      labels: index of the observed token; positions outside 0..V-1 (such as -100) are ignored.
      mask: nonzero where a position counts; None counts all.

    Returns:
      One value per token, float32 [*T], 0 at positions that do not count; the caller averages.

    Example:
      >>> print(f"{unlikelihood(jnp.zeros((1, 2)), jnp.array([1]))[0]:.4f}")  # log 2
      0.6931

    Reference: arXiv:1908.04319; CE-U: arXiv:2503.01224.
    """
    return per_token(unlikelihood_from_log_odds, logits, labels, mask)


def unlikelihood_from_log_odds(log_odds: Float[Array, "*T"]) -> Float[Array, "*T"]:
    """Unlikelihood from the label's log-odds.

    softplus(m),    dL/dm = p = sigmoid(m)

    Args:
      log_odds: m = z_y - logsumexp_{j != y} z_j.

    Returns:
      One value per token, float32 [*T].

    Example:
      >>> print(f"{unlikelihood_from_log_odds(jnp.array([0.0]))[0]:.4f}")  # log 2
      0.6931

    """
    m = log_odds.astype(jnp.float32)
    return with_slopes(m, jax.nn.softplus(m), jax.nn.sigmoid(m))
