# SPDX-License-Identifier: Apache-2.0
"""FLAT: an f-divergence between template and forget answers (Wang et al. 2024)."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from unilogit_jax.errors import check_choice
from unilogit_jax.ops import with_slopes

DIVERGENCES = ("kl", "tv")


def label_probability(log_odds: Float[Array, "*T"]) -> Float[Array, "*T"]:
    """P = sigmoid(m), with a slope p (1 - p) that keeps its digits where p is next to 1.

    Args:
      log_odds: m = z_y - logsumexp_{j != y} z_j.

    Returns:
      One probability per token, float32 [*T].

    Example:
      >>> print(f"{jax.grad(label_probability)(jnp.float32(40.0)):.1e}")  # exp(-40)
      4.2e-18

    """
    m = log_odds.astype(jnp.float32)
    p = jax.nn.sigmoid(m)
    return with_slopes(m, p, p * jax.nn.sigmoid(-m))


def flat_template(
    probability: Float[Array, "*B"], *, divergence: Literal["kl", "tv"] = "kl"
) -> Float[Array, "*B"]:
    """The part of the loss that raises template answers.

    kl: -P,    tv: -tanh(P) / 2

    Args:
      probability: P, the mean label probability over an answer's tokens.
      divergence: the f-divergence: Kullback-Leibler or total variation.

    Returns:
      One value per answer, float32 [*B]; the caller averages over answers.

    Raises:
      ValueError: an unknown divergence.

    Example:
      >>> flat_template(jnp.array([0.5])).item()
      -0.5

    Reference: arXiv:2410.11143.
    """
    check_choice("divergence", divergence, DIVERGENCES)
    p = probability.astype(jnp.float32)
    return -p if divergence == "kl" else -0.5 * jnp.tanh(p)


def flat_forget(
    probability: Float[Array, "*B"], *, divergence: Literal["kl", "tv"] = "kl"
) -> Float[Array, "*B"]:
    """The part of the loss that lowers forget answers: the divergence's conjugate.

    kl: exp(P - 1),    tv: tanh(P) / 2

    Args:
      probability: P, the mean label probability over an answer's tokens.
      divergence: the f-divergence: Kullback-Leibler or total variation.

    Returns:
      One value per answer, float32 [*B]; the caller averages over answers.

    Raises:
      ValueError: an unknown divergence.

    Example:
      >>> flat_forget(jnp.array([1.0])).item()
      1.0

    Reference: arXiv:2410.11143.
    """
    check_choice("divergence", divergence, DIVERGENCES)
    p = probability.astype(jnp.float32)
    return jnp.exp(p - 1.0) if divergence == "kl" else 0.5 * jnp.tanh(p)
