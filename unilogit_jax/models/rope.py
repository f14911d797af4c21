# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding: angles from positions, and the rotation of queries and keys."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from unilogit_jax.models.config import Rope


def rope_frequencies(rope: Rope, head_dim: int) -> np.ndarray:
    """Radians per position of each pair of entries, [head_dim / 2], float32.

    theta^(-2i / head_dim); the kind "llama3" divides those of long wavelength by `factor`, keeps
    those of short wavelength and interpolates in between.

    Example:
      >>> rope_frequencies(Rope(theta=100.0), 4).tolist()
      [1.0, 0.10000000149011612]

    Reference: arXiv:2104.09864, section 3.2.2; llama3 scaling: Llama 3.1 model card.
    """
    plain = rope.theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if rope.kind == "llama3":
        turns = rope.original_max_length * plain / (2 * math.pi)
        span = rope.high_freq_factor - rope.low_freq_factor
        keep = np.clip((turns - rope.low_freq_factor) / span, 0.0, 1.0)
        plain = keep * plain + (1.0 - keep) * plain / rope.factor
    return plain.astype(np.float32)


def rope_table(
    positions: Int[Array, "B L"], frequencies: np.ndarray, dtype: str
) -> tuple[Float[Array, "B L 1 half"], Float[Array, "B L 1 half"]]:
    """Cosine and sine of every position's angles; angles in float32, the result in `dtype`."""
    angles = positions[:, :, None].astype(jnp.float32) * frequencies[None, None, :]
    angles = angles[:, :, None, :]
    return jnp.cos(angles).astype(dtype), jnp.sin(angles).astype(dtype)


def rotate(
    x: Float[Array, "B L heads head_dim"],
    cos: Float[Array, "rows L 1 half"],
    sin: Float[Array, "rows L 1 half"],
) -> Float[Array, "B L heads head_dim"]:
    """Turns entry i and entry i + head_dim/2 of every head by the position's angle i."""
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
