# SPDX-License-Identifier: Apache-2.0
"""Inverted hinge: the label below its strongest rival (LoKU, Cha et al. 2024, arXiv:2408.06621)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from unilogit_jax.losses._common import supervised
from unilogit_jax.ops import label_columns, log_odds, with_slopes
from unilogit_jax.types import IGNORE


def ihl(
    logits: Float[Array, "*T V"],
    labels: Int[Array, "*T"],
    mask: Shaped[Array, "*T"] | None = None,
    *,
    margin: float = 1.0,
) -> Float[Array, "*T"]:
    """How far the label is from lying a margin below its strongest rival, in probability.

    max(0, margin + p_y - max_{j != y} p_j),    p = softmax(logits)

    Args:
      logits: scores of every vocabulary entry, any float dtype; computed in float32.
      labels: index of the observed token; positions outside 0..V-1 (such as -100) are ignored.
      mask: nonzero where a position counts; None counts all.
      margin: by how much the other token has to lead; 1 is never quite reached.

    Returns:
      One value per token, float32 [*T], 0 at positions that do not count; the caller averages.
      Where two other tokens lead together, the gradient is shared between them.

    Example:
      >>> print(f"{ihl(jnp.log(jnp.array([[0.5, 0.3, 0.2]])), jnp.array([0]))[0]:.4f}")
      1.2000

    Reference: arXiv:2408.06621.
    """
    valid = supervised(labels, mask, logits.shape[-1])
    z = jnp.where(valid[..., None], logits.astype(jnp.float32), 0.0)
    m = log_odds(z, jnp.where(valid, labels.astype(jnp.int32), IGNORE))
    others = jnp.where(label_columns(labels, z.shape[-1]), -jnp.inf, z)
    top = jnp.max(others, axis=-1) - jax.nn.logsumexp(z, axis=-1)
    return jnp.where(valid, ihl_from_log_odds(m, top, margin=margin), 0.0)


def ihl_from_log_odds(
    log_odds: Float[Array, "*T"], top_logprob: Float[Array, "*T"], *, margin: float = 1.0
) -> Float[Array, "*T"]:
    """The inverted hinge from the label's log-odds and the log-probability of its strongest rival.

    max(0, margin + sigmoid(m) - exp(r)),    dL/dm = p (1 - p),    dL/dr = -exp(r)

    Args:
      log_odds: m = z_y - logsumexp_{j != y} z_j.
      top_logprob: r, the largest log-probability of all tokens but the label.
      margin: by how much that token has to lead.

    Returns:
      One value per token, float32 [*T]; without gradient where the margin is exceeded.

    Example:
      >>> m, r = jnp.array([0.0]), jnp.log(jnp.array([0.3]))
      >>> print(f"{ihl_from_log_odds(m, r)[0]:.4f}")
      1.2000

    Reference: arXiv:2408.06621.
    """
    m, r = log_odds.astype(jnp.float32), top_logprob.astype(jnp.float32)
    p, not_p, rival = jax.nn.sigmoid(m), jax.nn.sigmoid(-m), jnp.exp(r)
    gap = margin + p - rival
    # Equality counts: margin 1 is reached by rounding only, and slopes go on below it.
    on = (gap >= 0).astype(jnp.float32)
    return with_slopes((m, r), jnp.maximum(gap, 0.0), (on * p * not_p, -on * rival))
