# SPDX-License-Identifier: Apache-2.0
"""Negative preference optimisation (Zhang et al. 2024, arXiv:2404.05868)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from unilogit_jax.losses.cross_entropy import cross_entropy_from_log_odds


def npo(
    logprobs: Float[Array, "*B"], ref_logprobs: Float[Array, "*B"], *, beta: float = 0.1
) -> Float[Array, "*B"]:
    """Treats each answer as the losing side of a preference, against a frozen reference.

    -(2/beta) log sigmoid(-beta (logprobs - ref_logprobs))

    The gradient is gradient ascent times 2 sigmoid(beta (logprobs - ref_logprobs)): the push fades
    once an answer is less likely than under the reference.

    Args:
      logprobs: log-probability of each whole answer (a sum over tokens) under the model.
      ref_logprobs: the same under the frozen reference; no gradient flows to it.
      beta: the paper's inverse temperature, positive; towards 0 the loss becomes gradient ascent.

    Returns:
      One value per answer, float32 [*B]; the caller averages.

    Raises:
      ValueError: if `beta` is not positive.

    Example:
      >>> loss = npo(jnp.array([-3.0]), jnp.array([-3.0]), beta=2.0)
      >>> print(f"{loss[0]:.4f}")  # log 2
      0.6931

    Reference: arXiv:2404.05868, equation 3.
    """
    gain = logprobs.astype(jnp.float32) - jax.lax.stop_gradient(ref_logprobs.astype(jnp.float32))
    return _npo_of_gain(gain, beta)


def npo_from_log_odds(
    log_odds: Float[Array, "*T"],
    ref_log_odds: Float[Array, "*T"],
    mask: Shaped[Array, "*T"],
    segments: Int[Array, "*T"],
    *,
    num_segments: int,
    beta: float = 0.1,
) -> Float[Array, " {num_segments}"]:
    """Negative preference optimisation of packed answers, from the log-odds of their tokens.

    -(2/beta) log sigmoid(-beta sum_t (log p_t - log p_ref,t)),    log p_t = -softplus(-m_t)

    Args:
      log_odds: m = z_y - logsumexp_{j != y} z_j under the model.
      ref_log_odds: the same under the frozen reference; no gradient flows to it.
      mask: nonzero at the supervised tokens; values elsewhere are not read, NaN included.
      segments: number of the answer that a token belongs to, from 1; 0 is padding.
      num_segments: number of answers plus one, a static size.
      beta: the paper's inverse temperature, positive.

    Returns:
      One value per segment, float32 [num_segments]. A segment without supervised tokens, segment 0
      among them, gives 0: divide by the number of the others.

    Raises:
      ValueError: if `beta` is not positive.

    Example:
      >>> m, segments = jnp.zeros(3), jnp.array([1, 1, 0])
      >>> loss = npo_from_log_odds(m, m, segments > 0, segments, num_segments=2, beta=2.0)
      >>> print(f"{loss[0]:.4f} {loss[1]:.4f}")
      0.0000 0.6931

    Reference: arXiv:2404.05868, equation 3.
    """
    counts = mask.astype(bool) & (segments > 0)
    m = jnp.where(counts, log_odds.astype(jnp.float32), 0.0)
    ref = jax.lax.stop_gradient(jnp.where(counts, ref_log_odds.astype(jnp.float32), 0.0))
    gain = cross_entropy_from_log_odds(ref) - cross_entropy_from_log_odds(m)
    ids = segments.ravel()
    gain = jax.ops.segment_sum(jnp.where(counts, gain, 0.0).ravel(), ids, num_segments)
    present = jax.ops.segment_sum(counts.astype(jnp.int32).ravel(), ids, num_segments) > 0
    return jnp.where(present, _npo_of_gain(gain, beta), 0.0)


def _npo_of_gain(gain: Float[Array, "*B"], beta: float) -> Float[Array, "*B"]:
    if beta <= 0:
        raise ValueError(f"NPO needs beta > 0, got {beta}; for beta towards 0 use grad_ascent")
    return (2.0 / beta) * jax.nn.softplus(beta * gain)
