# SPDX-License-Identifier: Apache-2.0
"""SimNPO: negative preference optimisation without a reference (Fan et al. 2024)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped


def simnpo(
    logprobs: Float[Array, "*B"],
    lengths: Shaped[Array, "*B"],
    *,
    beta: float = 4.5,
    delta: float = 0.0,
) -> Float[Array, "*B"]:
    """Makes whole answers unlikely per token, until they are unlikely enough.

    -(2/beta) log sigmoid(beta (nll - delta)),    nll = -logprobs / lengths

    The slope with respect to each token's log-probability is (2/length) sigmoid(-beta (nll -
    delta)): positive, so that minimising pushes the answer down, and fading as nll grows.

    Args:
      logprobs: log-probability of each whole answer, a sum over its tokens.
      lengths: number of those tokens; an answer of none counts as nll 0.
      beta: inverse temperature, positive.
      delta: the nll that is worth half the slope; the paper's margin is beta * delta.

    Returns:
      One value per answer, float32 [*B]; the caller averages over answers.

    Raises:
      ValueError: if `beta` is not positive.

    Example:
      >>> loss = simnpo(jnp.array([0.0, -30.0]), jnp.array([3, 3]), beta=2.0)
      >>> print(f"{loss[0]:.4f} {loss[1]:.4f}")  # log 2, and long forgotten
      0.6931 0.0000

    Reference: arXiv:2410.07163.
    """
    if beta <= 0:
        raise ValueError(f"SimNPO needs beta > 0, got {beta}")
    nll = -logprobs.astype(jnp.float32) / jnp.maximum(lengths.astype(jnp.float32), 1.0)
    return (2.0 / beta) * jax.nn.softplus(-beta * (nll - delta))
