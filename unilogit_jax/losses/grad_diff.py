# SPDX-License-Identifier: Apache-2.0
"""Gradient difference (Liu et al. 2022, arXiv:2203.12817): ascent on forget, descent on retain."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from unilogit_jax.losses._common import supervised
from unilogit_jax.losses.cross_entropy import cross_entropy, cross_entropy_from_log_odds
from unilogit_jax.losses.grad_ascent import grad_ascent, grad_ascent_from_log_odds
from unilogit_jax.losses.reduce import masked_mean


def grad_diff(
    forget_logits: Float[Array, "*F V"],
    forget_labels: Int[Array, "*F"],
    retain_logits: Float[Array, "*R V"],
    retain_labels: Int[Array, "*R"],
    *,
    forget_mask: Shaped[Array, "*F"] | None = None,
    retain_mask: Shaped[Array, "*R"] | None = None,
    retain_weight: float = 1.0,
) -> Float[Array, ""]:
    """Token mean of log p over forget plus the weighted token mean of -log p over retain.

    L = -NLL(forget) + retain_weight * NLL(retain)

    Args:
      forget_logits: scores of the forget tokens, any leading axes.
      forget_labels: their labels; positions outside 0..V-1 (such as -100) are ignored.
      retain_logits: scores of the retain tokens, any leading axes of their own.
      retain_labels: their labels.
      forget_mask: nonzero where a forget position counts; None counts all.
      retain_mask: nonzero where a retain position counts; None counts all.
      retain_weight: weight of the retain term.

    Returns:
      A float32 scalar. Each mean runs over the tokens of its own set; an empty set gives 0.

    Example:
      >>> logits, labels = jnp.zeros((2, 4)), jnp.array([0, 1])
      >>> loss = grad_diff(logits, labels, logits, labels, retain_weight=2.0)
      >>> print(f"{loss:.4f}")  # log 4
      1.3863

    Reference: arXiv:2203.12817; with a retain weight as in arXiv:2401.06121.
    """
    forget = supervised(forget_labels, forget_mask, forget_logits.shape[-1])
    retain = supervised(retain_labels, retain_mask, retain_logits.shape[-1])
    ascent = grad_ascent(forget_logits, forget_labels, forget)
    descent = cross_entropy(retain_logits, retain_labels, retain)
    return masked_mean(ascent, forget) + retain_weight * masked_mean(descent, retain)


def grad_diff_from_log_odds(
    log_odds: Float[Array, "*T"],
    forget_mask: Shaped[Array, "*T"],
    retain_mask: Shaped[Array, "*T"],
    *,
    retain_weight: float = 1.0,
) -> Float[Array, ""]:
    """Gradient difference from the log-odds of a batch that holds both sets.

    L = mean_forget(-softplus(-m)) + retain_weight * mean_retain(softplus(-m))

    Args:
      log_odds: m = z_y - logsumexp_{j != y} z_j, finite or not where no mask is set.
      forget_mask: nonzero at supervised tokens of the forget set.
      retain_mask: nonzero at supervised tokens of the retain set.
      retain_weight: weight of the retain term.

    Returns:
      A float32 scalar.

    Example:
      >>> m = jnp.array([0.0, 0.0, jnp.nan])
      >>> forget, retain = jnp.array([1, 0, 0]), jnp.array([0, 1, 0])
      >>> loss = grad_diff_from_log_odds(m, forget, retain, retain_weight=3.0)
      >>> print(f"{loss:.4f}")  # 2 log 2
      1.3863

    """
    counts = forget_mask.astype(bool) | retain_mask.astype(bool)
    m = jnp.where(counts, log_odds.astype(jnp.float32), 0.0)
    ascent = masked_mean(grad_ascent_from_log_odds(m), forget_mask)
    return ascent + retain_weight * masked_mean(cross_entropy_from_log_odds(m), retain_mask)
