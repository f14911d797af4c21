# SPDX-License-Identifier: Apache-2.0
"""Unilogit with a whole answer as its unit: the answer becomes as likely as under no model."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from unilogit_jax.losses.cross_entropy import cross_entropy_from_log_odds
from unilogit_jax.ops import with_slopes


def unilogit_sequence_from_log_odds(
    log_odds: Float[Array, "*T"],
    mask: Shaped[Array, "*T"],
    segments: Int[Array, "*T"],
    *,
    num_segments: int,
    vocab_size: int,
) -> Float[Array, " {num_segments}"]:
    """Binary divergence of each answer's probability from that of the uniform model.

    (1/n) KL(P || U),    log P = sum_t log p_t,    U = V^-n,    n tokens

    dL/dz_t = P (log V + logit(P) / n) (e_y - p_t) up to log(1 - U): the push ends as soon as the
    answer as a whole is improbable, and it falls on the tokens that the model is least sure of. For
    n = 1 this is the loss of single tokens.

    Args:
      log_odds: m = z_y - logsumexp_{j != y} z_j.
      mask: nonzero at the supervised tokens; values elsewhere are not read, NaN included.
      segments: number of the answer that a token belongs to, from 1; 0 is padding.
      num_segments: number of answers plus one, a static size.
      vocab_size: V, the number of logit columns behind `log_odds`.

    Returns:
      One value per segment, float32 [num_segments]. A segment without supervised tokens, segment 0
      among them, gives 0: divide by the number of the others.

    Raises:
      ValueError: if `vocab_size` < 2.

    Example:
      >>> m, segments = jnp.array([0.0, 0.0, 9.0]), jnp.array([1, 1, 0])
      >>> loss = unilogit_sequence_from_log_odds(
      ...     m, segments > 0, segments, num_segments=2, vocab_size=2
      ... )
      >>> print(f"{loss[1]:.4f}")  # P = 1/4 = U
      0.0000

    Note: an answer of probability below about 1e-38 gives 0 in float32: long ones that were not
      learnt by heart are not pushed at all.
    """
    if vocab_size < 2:
        raise ValueError(f"Unilogit needs a vocabulary of at least 2 tokens, got {vocab_size}")
    counts, ids = mask.astype(bool) & (segments > 0), segments.ravel()
    m = jnp.where(counts, log_odds.astype(jnp.float32), 0.0)
    nll = jnp.where(counts, cross_entropy_from_log_odds(m), 0.0)
    log_p = -jax.ops.segment_sum(nll.ravel(), ids, num_segments)
    lengths = jax.ops.segment_sum(counts.astype(jnp.float32).ravel(), ids, num_segments)
    values = _divergence(log_p, jnp.maximum(lengths, 1.0), math.log(vocab_size))
    return jnp.where(lengths > 0, values, 0.0)


def _divergence(
    log_p: Float[Array, " S"], lengths: Float[Array, " S"], log_v: float
) -> Float[Array, " S"]:
    # A certain answer has no logit; the smallest number stands for its distance from 1.
    safe = jnp.minimum(jax.lax.stop_gradient(log_p), -jnp.finfo(jnp.float32).tiny)
    p, not_p = jnp.exp(safe), -jnp.expm1(safe)
    above = safe + lengths * log_v
    others = _log1m_exp(safe) - _log1m_exp(-lengths * log_v)
    value = (p * above + not_p * others) / lengths
    return with_slopes(log_p, value, p * (above - others) / lengths)


def _log1m_exp(x: Float[Array, " S"]) -> Float[Array, " S"]:
    """log(1 - exp(x)) for x < 0, either end exact."""
    near = x > -math.log(2.0)
    small = jnp.log(-jnp.expm1(jnp.where(near, x, -1.0)))
    return jnp.where(near, small, jnp.log1p(-jnp.exp(jnp.where(near, -1.0, x))))
