# SPDX-License-Identifier: Apache-2.0
"""The key/value cache of generation."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from unilogit_jax.models.config import DecoderConfig


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Cache:
    """Keys and values of S slots, of which the first `index` are written, the same in every row.

    Keys are stored rotated, so their positions are not needed again.
    """

    keys: Float[Array, "layers B S K head_dim"]
    values: Float[Array, "layers B S K head_dim"]
    segments: Int[Array, "B S"]
    """Segment of every slot; 0 is padding or not written yet."""
    index: Int[Array, ""]
    """The slot that the next token is written to."""


def make_cache(config: DecoderConfig, *, rows: int, length: int) -> Cache:
    """An empty cache with `length` slots for each of `rows` rows, in the compute dtype.

    Example:
      >>> config = DecoderConfig.scratch(vocab_size=8, width=8, heads=2)
      >>> make_cache(config, rows=3, length=5).keys.shape
      (2, 3, 5, 2, 4)

    """
    shape = (config.layers, rows, length, config.kv_heads, config.head_dim)
    return Cache(
        keys=jnp.zeros(shape, config.dtype),
        values=jnp.zeros(shape, config.dtype),
        segments=jnp.zeros((rows, length), jnp.int32),
        index=jnp.zeros((), jnp.int32),
    )
