# SPDX-License-Identifier: Apache-2.0
"""Gradient ascent on the negative log-likelihood: the oldest unlearning loss, without a floor."""

from jaxtyping import Array, Float, Int, Shaped

from unilogit_jax.losses._common import per_token
from unilogit_jax.losses.cross_entropy import cross_entropy_from_log_odds


def grad_ascent(
    logits: Float[Array, "*T V"],
    labels: Int[Array, "*T"],
    mask: Shaped[Array, "*T"] | None = None,
) -> Float[Array, "*T"]:
    """Log-likelihood of the label, to be minimised.

    log p_y,    p = softmax(logits)

    Args:
      logits: scores of every vocabulary entry, any float dtype.
      labels: index of the observed token; positions outside 0..V-1 (such as -100) are ignored.
      mask: nonzero where a position counts; None counts all.

    Returns:
      One value per token, float32 [*T], 0 at positions that do not count; the caller averages.

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{grad_ascent(jnp.zeros((1, 4)), jnp.array([3]))[0]:.4f}")  # log(1/4)
      -1.3863

    Reference: arXiv:2210.01504.
    """
    return per_token(grad_ascent_from_log_odds, logits, labels, mask)


def grad_ascent_from_log_odds(log_odds: Float[Array, "*T"]) -> Float[Array, "*T"]:
    """Log-likelihood of the label, from its log-odds.

    -softplus(-m),    dL/dm = 1 - p

    Args:
      log_odds: m = z_y - logsumexp_{j != y} z_j.

    Returns:
      One value per token, float32 [*T].

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{grad_ascent_from_log_odds(jnp.array([0.0]))[0]:.4f}")  # log(1/2)
      -0.6931

    """
    return -cross_entropy_from_log_odds(log_odds)
