# SPDX-License-Identifier: Apache-2.0
"""Steering of hidden states (RMU; Li et al. 2024, arXiv:2403.03218)."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def rmu(hidden: Float[Array, "*T D"], target: Float[Array, "*targets D"]) -> Float[Array, "*T"]:
    """How far hidden states are from where they should be: (1/D) |h - target|^2.

    The target of forget tokens is one direction for all, that of retain tokens the start model's
    hidden state.

    Args:
      hidden: outputs of one layer.
      target: one for each token, or one for all of them.

    Returns:
      One value per token, float32 [*T]; the caller averages.

    Example:
      >>> rmu(jnp.array([[3.0, 4.0]]), jnp.array([[0.0, 0.0]]))
      Array([12.5], dtype=float32)

    Reference: arXiv:2403.03218, section 4.
    """
    one = target.reshape(*(1,) * (hidden.ndim - target.ndim), *target.shape)
    gap = hidden.astype(jnp.float32) - one.astype(jnp.float32)
    return jnp.mean(gap * gap, axis=-1)
