# SPDX-License-Identifier: Apache-2.0
"""WGA: gradient ascent weighed by the label's probability (Wang et al. 2025, arXiv:2502.19301)."""

from jaxtyping import Array, Float, Int, Shaped

from unilogit_jax.losses._common import per_token
from unilogit_jax.losses.satimp import satimp_from_log_odds


def wga(
    logits: Float[Array, "*T V"],
    labels: Int[Array, "*T"],
    mask: Shaped[Array, "*T"] | None = None,
    *,
    beta: float = 1.0,
) -> Float[Array, "*T"]:
    """Log-likelihood of the label, to be minimised, times a power of its probability.

    sg[p_y^beta] log p_y,    p = softmax(logits)

    The weight carries no gradient. Gradient ascent pushes hardest where there is nothing left to
    forget; this one lets go there.

    Args:
      logits: scores of every vocabulary entry, any float dtype; computed in float32.
      labels: index of the observed token; positions outside 0..V-1 (such as -100) are ignored.
      mask: nonzero where a position counts; None counts all.
      beta: exponent of the weight; 0 is gradient ascent.

    Returns:
      One value per token, float32 [*T], 0 at positions that do not count; the caller averages.

    Raises:
      ValueError: if `beta` is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{wga(jnp.zeros((1, 2)), jnp.array([1]))[0]:.4f}")  # log(1/2) / 2
      -0.3466

    Reference: arXiv:2502.19301.
    """
    return per_token(lambda m: wga_from_log_odds(m, beta=beta), logits, labels, mask)


def wga_from_log_odds(log_odds: Float[Array, "*T"], *, beta: float = 1.0) -> Float[Array, "*T"]:
    """WGA from the label's log-odds.

    -p^beta softplus(-m),    dL/dm = p^beta (1 - p)

    Args:
      log_odds: m = z_y - logsumexp_{j != y} z_j, so that p = sigmoid(m).
      beta: exponent of the weight.

    Returns:
      One value per token, float32 [*T].

    Raises:
      ValueError: if `beta` is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> print(f"{wga_from_log_odds(jnp.array([0.0]))[0]:.4f}")  # log(1/2) / 2
      -0.3466

    """
    return satimp_from_log_odds(log_odds, beta1=beta, beta2=0.0)
