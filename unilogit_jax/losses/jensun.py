# SPDX-License-Identifier: Apache-2.0
"""JensUn: Jensen-Shannon divergence towards given tokens (Singh et al. 2025)."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from unilogit_jax.losses._common import per_token
from unilogit_jax.ops import with_slopes


def jensun(
    logits: Float[Array, "*T V"],
    labels: Int[Array, "*T"],
    mask: Shaped[Array, "*T"] | None = None,
) -> Float[Array, "*T"]:
    """Jensen-Shannon divergence of the model from certainty of a token, such as a refusal's.

    JS(e_r, p),    p = softmax(logits)

    Args:
      logits: scores of every vocabulary entry, any float dtype.
      labels: r, the token that the model shall say; positions outside 0..V-1 are ignored.
      mask: nonzero where a position counts; None counts all.

    Returns:
      One value per token, float32 [*T], between 0 and log 2; 0 at positions that do not count. The
      caller averages.

    Example:
      >>> print(f"{jensun(jnp.array([[0.0, -jnp.inf]]), jnp.array([1]))[0]:.4f}")  # log 2
      0.6931

    Reference: arXiv:2509.02820.
    """
    return per_token(jensun_from_log_odds, logits, labels, mask)


def jensun_from_log_odds(log_odds: Float[Array, "*T"]) -> Float[Array, "*T"]:
    """The same from the log-odds of the token that the model shall say.

    All that a one-hot target leaves of the divergence is p, the probability of its token:

    JS(e_r, p) = log 2 + (p log p - (1+p) log(1+p)) / 2,    dL/dm = p (1-p) log(p / (1+p)) / 2

    With q = 1 - p the value is (p log p + q log 2) / 2 - (1 - q/2) log(1 - q/2), which keeps its
    digits as p tends to 1; there it tends to q log(2) / 2.

    Args:
      log_odds: m = z_r - logsumexp_{j != r} z_j.

    Returns:
      One value per token, float32 [*T].

    Example:
      >>> values = jensun_from_log_odds(jnp.array([-jnp.inf, jnp.inf]))
      >>> print(f"{values[0]:.4f} {values[1]:.4f}")
      0.6931 0.0000

    Reference: arXiv:2509.02820.
    """
    m = log_odds.astype(jnp.float32)
    p, q = jax.nn.sigmoid(m), jax.nn.sigmoid(-m)
    log_p = -jax.nn.softplus(-m)
    p_log_p = jnp.where(p > 0, p * log_p, 0.0)
    value = 0.5 * (p_log_p + q * math.log(2.0)) - (1.0 - 0.5 * q) * jnp.log1p(-0.5 * q)
    slope = 0.5 * (jnp.where(p > 0, p * q * log_p, 0.0) - p * q * jnp.log1p(p))
    return with_slopes(m, value, slope)
