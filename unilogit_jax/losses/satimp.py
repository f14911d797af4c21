# SPDX-License-Identifier: Apache-2.0
"""SatImp: weights by saturation and importance (Yang et al. 2025, arXiv:2505.11953)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from unilogit_jax.losses._common import per_token
from unilogit_jax.ops import with_slopes


def satimp(
    logits: Float[Array, "*T V"],
    labels: Int[Array, "*T"],
    mask: Shaped[Array, "*T"] | None = None,
    *,
    beta1: float = 5.0,
    beta2: float = 1.0,
) -> Float[Array, "*T"]:
    """Log-likelihood of the label, to be minimised, times a weight without gradient.

    sg[p_y^beta1 (1 - p_y)^beta2] log p_y,    p = softmax(logits)

    Args:
      logits: scores of every vocabulary entry, any float dtype; computed in float32.
      labels: index of the observed token; positions outside 0..V-1 (such as -100) are ignored.
      mask: nonzero where a position counts; None counts all.
      beta1: exponent of p: how much more a token counts that is still well known.
      beta2: exponent of 1 - p: how much less one counts that is certain.

    Returns:
      One value per token, float32 [*T], 0 at positions that do not count; the caller averages.

    Raises:
      ValueError: if an exponent is negative.

    Example:
      >>> print(f"{satimp(jnp.zeros((1, 2)), jnp.array([1]))[0]:.4f}")  # log(1/2) / 2^6
      -0.0108

    Reference: arXiv:2505.11953.
    """

    def phi(m: Array) -> Array:
        return satimp_from_log_odds(m, beta1=beta1, beta2=beta2)

    return per_token(phi, logits, labels, mask)


def satimp_from_log_odds(
    log_odds: Float[Array, "*T"], *, beta1: float = 5.0, beta2: float = 1.0
) -> Float[Array, "*T"]:
    """SatImp from the label's log-odds.

    -w softplus(-m),    dL/dm = w (1 - p),    w = p^beta1 (1 - p)^beta2

    Args:
      log_odds: m = z_y - logsumexp_{j != y} z_j, so that p = sigmoid(m).
      beta1: exponent of p.
      beta2: exponent of 1 - p.

    Returns:
      One value per token, float32 [*T].

    Raises:
      ValueError: if an exponent is negative.

    Example:
      >>> m = jnp.array([0.0])
      >>> print(f"{satimp_from_log_odds(m, beta1=0.0, beta2=0.0)[0]:.4f}")  # log(1/2)
      -0.6931

    """
    if beta1 < 0 or beta2 < 0:
        raise ValueError(f"exponents must not be negative, got {beta1} and {beta2}")
    m = log_odds.astype(jnp.float32)
    not_p = jax.nn.sigmoid(-m)
    weight = jax.nn.sigmoid(m) ** beta1 * not_p**beta2
    # An impossible label has weight 0 and log-likelihood -inf: no loss.
    value = jnp.where(weight > 0, -weight * jax.nn.softplus(-m), 0.0)
    return with_slopes(m, value, weight * not_p)
