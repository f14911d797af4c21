# SPDX-License-Identifier: Apache-2.0
"""Attention of whole rows with the TPU's splash kernel, each device working on its part.

The compiler divides the rest of the model by itself, but cannot cut a kernel written by hand: hence
this one shard_map outside of ops. It stands beside the model because it divides what the model
divides, rows and heads, and nothing else uses it.
"""

import math
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as splash
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from unilogit_jax.sharding import partition_spec

TILE = 128
"""Lanes of a TPU's vector unit; the kernel's blocks are multiples of it."""
LONGEST_BLOCK = 512
"""Queries, and keys, of one block at most."""


def splash_attention(
    query: Float[Array, "B L H head_dim"],
    key: Float[Array, "B L K head_dim"],
    value: Float[Array, "B L K head_dim"],
    *,
    segments: Int[Array, "B L"] | None = None,
    key_segments: Int[Array, "B L"] | None = None,
    window: int | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    mesh: Mesh | None = None,
    interpret: bool = False,
) -> Float[Array, "B L H head_dim"]:
    """softmax(cap(scale query key)) value in blocks: no L x L array, forward or backward.

    A token sees itself and what lies before it in its segment. Keys are not repeated for grouped
    queries, and blocks that nobody sees are skipped.

    Args:
      query: rotated queries. They are scaled in float32 and rounded back to their own type.
      key: rotated keys; H must be a multiple of K (grouped queries).
      value: values.
      segments: segment of every token; padding (0) sees padding. None: every row is one text.
      key_segments: segment of every token as the others see it; None: the same.
      window: tokens seen at most, the present one included.
      scale: of the scores; None means head_dim^-1/2.
      softcap: scores become cap tanh(score / cap) before the mask.
      mesh: rows are divided over data and fsdp, heads over tensor; None: one device does it all.
      interpret: run without a TPU, step by step and slowly.

    Returns:
      The mixed values, [B, L, H, head_dim].

    Example:
      >>> x = jnp.ones((1, 128, 2, 8))
      >>> splash_attention(x, x, x, interpret=True).shape
      (1, 128, 2, 8)

    Reference: arXiv:2205.14135 (FlashAttention); the kernel is jax.experimental.pallas.ops.tpu's.

    """
    heads, width = query.shape[2:]
    factor = width**-0.5 if scale is None else scale
    query = (query.astype(jnp.float32) * factor).astype(query.dtype)
    run = partial(_attend, window=window, softcap=softcap, interpret=interpret)
    key_segments = segments if key_segments is None else key_segments
    if mesh is None:
        return run(query, key, value, segments, key_segments)
    key, value = (_repeat(x, heads, mesh.shape["tensor"]) for x in (key, value))
    queries = partition_spec(("batch", None, "heads", None), query.shape, mesh)
    keys = partition_spec(("batch", None, "kv_heads", None), key.shape, mesh)
    rows = partition_spec(("batch", None), query.shape[:2], mesh)
    # The kernel does not say over which axes its results vary, so that check must be off.
    divided = jax.shard_map(
        run,
        mesh=mesh,
        in_specs=(queries, keys, keys, rows, rows),
        out_specs=queries,
        check_vma=False,
    )
    return divided(query, key, value, segments, key_segments)


def takes_precision(dtype: Any) -> bool:
    """Whether the kernel compiles for this type under jax_default_matmul_precision as it is.

    Example:
      >>> with jax.default_matmul_precision("highest"):
      ...     takes_precision("float32"), takes_precision("bfloat16")
      (True, False)

    """
    precision = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    if precision in ("highest", "float32"):
        return jnp.dtype(dtype) == jnp.float32
    return precision in (None, "default", "bfloat16")


def _repeat(
    x: Float[Array, "B L K head_dim"], heads: int, parts: int
) -> Float[Array, "B L M head_dim"]:
    """Each head as often as it takes for every device to hold the ones that its queries need."""
    if heads % parts:
        return x
    return jnp.repeat(x, parts // math.gcd(x.shape[2], parts), axis=2)


def _attend(
    query: Float[Array, "B L H head_dim"],
    key: Float[Array, "B L K head_dim"],
    value: Float[Array, "B L K head_dim"],
    segments: Int[Array, "B L"] | None,
    key_segments: Int[Array, "B L"] | None,
    *,
    window: int | None,
    softcap: float | None,
    interpret: bool,
) -> Float[Array, "B L H head_dim"]:
    """Attention of scaled queries on one device."""
    length, heads = query.shape[1:3]
    missing = -length % TILE

    def pad(x: Array) -> Array:
        """Whole blocks: what is added lies ahead of every token, so none of them sees it."""
        return jnp.pad(x, ((0, 0), (0, missing), *((0, 0),) * (x.ndim - 2)))

    kernel = splash.make_splash_mha_single_device(
        _mask(length + missing, heads, window),
        block_sizes=_block_sizes(length + missing),
        attn_logits_soft_cap=softcap,
        interpret=interpret,
    )
    ids = None
    if segments is not None and key_segments is not None:
        ids = splash.SegmentIds(q=pad(segments), kv=pad(key_segments))
    mixed = jax.vmap(kernel)(*(pad(x).swapaxes(1, 2) for x in (query, key, value)), ids)
    return cast(Array, mixed).swapaxes(1, 2)[:, :length]


def _mask(length: int, heads: int, window: int | None) -> splash.MultiHeadMask:
    shape = (length, length)
    if window is None:
        return splash.MultiHeadMask([splash.CausalMask(shape)] * heads)
    return splash.MultiHeadMask([splash.LocalMask(shape, (window - 1, 0), 0)] * heads)


def _block_sizes(length: int) -> splash.BlockSizes:
    size = max(n for n in range(TILE, LONGEST_BLOCK + 1, TILE) if length % n == 0)
    return splash.BlockSizes(
        block_q=size,
        block_kv=size,
        block_q_dkv=size,
        block_kv_dkv=size,
        block_q_dq=size,
        block_kv_dq=size,
    )
