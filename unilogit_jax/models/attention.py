# SPDX-License-Identifier: Apache-2.0
"""Attention of the decoder: the mask, and one place that chooses the kernel."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def attention(
    query: Float[Array, "B L H head_dim"],
    key: Float[Array, "B S K head_dim"],
    value: Float[Array, "B S K head_dim"],
    mask: Bool[Array, "B 1 L S"] | None = None,
) -> Float[Array, "B L H head_dim"]:
    """softmax(query key / sqrt(head_dim)) value, the softmax in float32.

    Args:
      query: rotated queries.
      key: rotated keys; H must be a multiple of K (grouped queries).
      value: values.
      mask: True where a query may look; None means causal, all rows full.

    Returns:
      The mixed values, [B, L, H, head_dim].

    Example:
      >>> x = jnp.ones((1, 3, 2, 4))
      >>> attention(x, x, x).shape
      (1, 3, 2, 4)

    """
    return jax.nn.dot_product_attention(query, key, value, mask=mask, is_causal=mask is None)


def segment_mask(
    query_segments: Int[Array, "B L"],
    key_segments: Int[Array, "B S"],
    offset: Int[Array, ""] | int = 0,
) -> Bool[Array, "B 1 L S"]:
    """True where key and query belong to one segment and the key does not lie ahead.

    Padding (segment 0) sees padding, so no row of the mask is empty and nothing becomes NaN; no
    other segment sees padding.

    Args:
      query_segments: segment of every query.
      key_segments: segment of every key.
      offset: index of the first query among the keys (a cache holds earlier keys).

    Example:
      >>> segment_mask(jnp.array([[1, 2]]), jnp.array([[1, 2]]))[0, 0].tolist()
      [[True, False], [False, True]]

    """
    length, keys = query_segments.shape[1], key_segments.shape[1]
    ahead = jnp.arange(keys)[None, :] > offset + jnp.arange(length)[:, None]
    same = query_segments[:, None, :, None] == key_segments[:, None, None, :]
    return same & ~ahead[None, None]
