# SPDX-License-Identifier: Apache-2.0
"""Direct preference optimisation, and the same preference for answers that are to stay."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from unilogit_jax.errors import check_choice


def dpo(
    gain_of_winner: Float[Array, "*B"],
    gain_of_loser: Float[Array, "*B"],
    *,
    beta: float = 0.1,
    compat: Literal["none", "open_unlearning"] = "none",
) -> Float[Array, "*B"]:
    """Prefers one answer to another, both measured against a frozen reference.

    -log sigmoid(beta D),    D = gain_of_winner - gain_of_loser

    With respect to log-probabilities the slope is -beta sigmoid(-beta D) for the winner and its
    opposite for the loser.

    Args:
      gain_of_winner: log p(answer) - log p_ref(answer), sums over tokens, of the answer to teach.
      gain_of_loser: the same of the answer to forget.
      beta: inverse temperature, positive.
      compat: "open_unlearning" multiplies by 2/beta, as that library does.

    Returns:
      One value per pair, float32 [*B]; the caller averages.

    Raises:
      ValueError: if `beta` is not positive or `compat` is unknown.

    Example:
      >>> zero = jnp.zeros(1)
      >>> print(f"{dpo(zero, zero)[0]:.4f}")  # at the reference: log 2
      0.6931

    Reference: arXiv:2305.18290, equation 7.
    """
    if beta <= 0:
        raise ValueError(f"DPO needs beta > 0, got {beta}")
    check_choice("compat", compat, ("none", "open_unlearning"))
    scale = 2.0 / beta if compat == "open_unlearning" else 1.0
    gap = gain_of_winner.astype(jnp.float32) - gain_of_loser.astype(jnp.float32)
    return scale * jax.nn.softplus(-beta * gap)


def answer_preservation(
    logprobs: Float[Array, "*B"], refusal_logprobs: Float[Array, "*B"], *, beta: float = 0.1
) -> Float[Array, "*B"]:
    """Keeps an answer likelier than a refusal of the same question; needs no reference.

    -(1/beta) log sigmoid(beta (log p(answer) - log p(refusal)))

    Args:
      logprobs: log-probability of each true answer, a sum over its tokens.
      refusal_logprobs: the same of a refusal of its question.
      beta: inverse temperature, positive.

    Returns:
      One value per question, float32 [*B]; the caller averages.

    Raises:
      ValueError: if `beta` is not positive.

    Example:
      >>> loss = answer_preservation(jnp.array([-2.0]), jnp.array([-200.0]), beta=1.0)
      >>> print(f"{loss[0]:.4f}")
      0.0000

    Reference: arXiv:2410.08109.
    """
    if beta <= 0:
        raise ValueError(f"answer preservation needs beta > 0, got {beta}")
    gap = logprobs.astype(jnp.float32) - refusal_logprobs.astype(jnp.float32)
    return (1.0 / beta) * jax.nn.softplus(-beta * gap)
