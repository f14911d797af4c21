# SPDX-License-Identifier: Apache-2.0
"""Attention of the decoder: what a query may see, and one place that chooses the kernel."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from unilogit_jax.errors import ConfigError
from unilogit_jax.models.splash import TILE, splash_attention, takes_precision


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Sight:
    """What every query may see; without segments: itself and all keys before it."""

    query_segments: Int[Array, "B L"] | None = None
    key_segments: Int[Array, "B S"] | None = None
    mask: Bool[Array, "B 1 L S"] | None = None
    """True where a query may look: all of it in one array, for kernels that want that."""
    window: int | None = field(default=None, metadata={"static": True})
    """Keys that a query sees at most, its own included."""


def look(
    query_segments: Int[Array, "B L"] | None,
    key_segments: Int[Array, "B S"] | None,
    offset: Int[Array, ""] | int = 0,
    window: int | None = None,
) -> Sight:
    """The sight of queries that see their own segment, nothing ahead, and `window` keys at most.

    Args:
      query_segments: segment of every query; None: rows are one text each, and there is no cache.
      key_segments: segment of every key.
      offset: index of the first query among the keys (a cache holds earlier keys).
      window: how far back a query sees; None is all the way.

    """
    if query_segments is None or key_segments is None:
        return Sight(window=window)
    return Sight(
        query_segments=query_segments,
        key_segments=key_segments,
        mask=segment_mask(query_segments, key_segments, offset, window),
        window=window,
    )


def hide(
    segments: Int[Array, "B L"], unseen: Bool[Array, "B L"]
) -> tuple[Int[Array, "B L"], Int[Array, "B L"]]:
    """Segments of queries and of keys where some tokens of texts are seen by no other.

    An unseen token itself sees what is visible before it, as with a mask over keys alone. Where
    that is nothing, at the beginning of a text, it sees itself and the unseen ones before it: with
    nothing at all in sight, attention has no value.

    Args:
      segments: of every token, 1 or more; 0 is padding.
      unseen: the tokens to hide.

    Returns:
      Two arrays like `segments`; unseen keys have their text's number with a minus.

    Example:
      >>> text = jnp.array([[1, 1, 1, 2]]), jnp.array([[True, False, True, False]])
      >>> [side.tolist() for side in hide(*text)]
      [[[-1, 1, 1, 2]], [[-1, 1, -1, 2]]]

    """
    keys = jnp.where(unseen, -segments, segments)
    columns = jnp.arange(segments.shape[1])[None, :]
    last = jax.lax.cummax(jnp.where(unseen, -1, columns), axis=1)
    within = jnp.take_along_axis(segments, jnp.maximum(last, 0), axis=1) == segments
    return jnp.where((last >= 0) & within, segments, keys), keys


def attention(
    query: Float[Array, "B L H head_dim"],
    key: Float[Array, "B S K head_dim"],
    value: Float[Array, "B S K head_dim"],
    sight: Sight,
    *,
    scale: float | None = None,
    softcap: float | None = None,
    kernel: str = "auto",
    mesh: Mesh | None = None,
) -> Float[Array, "B L H head_dim"]:
    """softmax(cap(scale query key)) value over what is in sight, the softmax in float32.

    "auto" takes "splash" on a TPU and "xla" elsewhere. "cudnn" is never chosen by itself, since it
    was not measured against "xla"; it takes the mask of segments or a window as an [L, S] bias.
    "splash" works on whole rows only: where keys outnumber queries (generation with a cache), the
    work is "xla"'s in any case, and "auto" leaves to it as well rows under 128 tokens, several TPUs
    without a mesh, and matmul precisions that the kernel does not have.

    Args:
      query: rotated queries.
      key: rotated keys; H must be a multiple of K (grouped queries).
      value: values.
      sight: which keys each query sees.
      scale: of the scores; None means head_dim^-1/2.
      softcap: scores become cap tanh(score / cap) before the mask.
      kernel: "auto", "xla", "splash" (TPU) or "cudnn" (NVIDIA).
      mesh: where rows and heads are divided; "splash" divides its work by it.

    Returns:
      The mixed values, [B, L, H, head_dim].

    Raises:
      ConfigError: the kernel named cannot do this, here (see `check_kernel`).

    Example:
      >>> x = jnp.ones((1, 3, 2, 4))
      >>> attention(x, x, x, Sight()).shape
      (1, 3, 2, 4)

    """
    device = jax.devices()[0] if mesh is None else mesh.devices.flat[0]
    dtype, head_dim = query.dtype, query.shape[-1]
    check_kernel(kernel, device, dtype=dtype, head_dim=head_dim, softcap=softcap)
    if kernel == "auto" and _fits_splash(query, device, mesh):
        kernel = "splash"
    if kernel == "splash" and query.shape[1] == key.shape[1]:
        return splash_attention(
            query,
            key,
            value,
            segments=sight.query_segments,
            key_segments=sight.key_segments,
            window=sight.window,
            scale=scale,
            softcap=softcap,
            mesh=mesh,
        )
    factor = head_dim**-0.5 if scale is None else scale
    mask = sight.mask
    if mask is None and (sight.window is not None or softcap is not None):
        mask = _causal_mask(query.shape[1], sight.window)
    if softcap is not None:
        assert mask is not None  # made just now, if it was none
        return _capped(query, key, value, mask, scale=factor, softcap=softcap)
    return jax.nn.dot_product_attention(
        query,
        key,
        value,
        mask=mask,
        is_causal=mask is None,
        scale=factor,
        implementation="cudnn" if kernel == "cudnn" else "xla",
    )


def check_kernel(
    kernel: str, device: Any, *, dtype: Any, head_dim: int, softcap: float | None
) -> None:
    """Refuses a kernel that cannot work, in one sentence; "auto" and "xla" always can.

    Args:
      kernel: as in `attention`.
      device: a device that is to run it.
      dtype: of queries, keys and values.
      head_dim: entries of a head.
      softcap: as in `attention`.

    Raises:
      ConfigError: "splash" without a TPU or at a matmul precision that it does not have; "cudnn"
        without an NVIDIA GPU, in float32, with capped scores, or with a head_dim that is no
        multiple of 8 or too large for the GPU.

    Example:
      >>> check_kernel("xla", jax.devices()[0], dtype="float32", head_dim=64, softcap=None)

    """
    mend = "set attention to 'auto'."
    if kernel == "splash" and device.platform != "tpu":
        raise ConfigError(
            f"attention 'splash' runs on TPUs, and this is a {device.platform}: {mend}"
        )
    if kernel == "splash" and not takes_precision(dtype):
        raise ConfigError(
            f"attention 'splash' cannot multiply {jnp.dtype(dtype)} at the present "
            f"jax_default_matmul_precision: leave that unset, or {mend}"
        )
    if kernel != "cudnn":
        return
    if jnp.dtype(dtype) != jnp.bfloat16:
        raise ConfigError(
            f"attention 'cudnn' computes in bfloat16, not {jnp.dtype(dtype)}: set dtype to "
            f"bfloat16, or {mend}"
        )
    if softcap is not None:
        raise ConfigError(f"attention 'cudnn' cannot cap scores ({softcap}): {mend}")
    capability = str(getattr(device, "compute_capability", ""))
    if not capability[:1].isdigit():
        raise ConfigError(
            f"attention 'cudnn' runs on NVIDIA GPUs, and this is a {device.platform}: {mend}"
        )
    # As jax has it: 256 from Hopper (compute capability 9.0) on, 128 before.
    largest = 256 if float(capability) >= 9.0 else 128
    if head_dim % 8 or head_dim > largest:
        raise ConfigError(
            f"attention 'cudnn' wants a head_dim that is a multiple of 8 and at most {largest} "
            f"on this GPU, not {head_dim}: {mend}"
        )


def segment_mask(
    query_segments: Int[Array, "B L"],
    key_segments: Int[Array, "B S"],
    offset: Int[Array, ""] | int = 0,
    window: int | None = None,
) -> Bool[Array, "B 1 L S"]:
    """True where key and query belong to one segment and the key lies neither ahead nor too far.

    Padding (segment 0) sees padding, so no row of the mask is empty and nothing becomes NaN; no
    other segment sees padding.

    Args:
      query_segments: segment of every query.
      key_segments: segment of every key.
      offset: index of the first query among the keys (a cache holds earlier keys).
      window: keys further back than this, the query's own counted as the first, are not seen.

    Example:
      >>> segment_mask(jnp.array([[1, 2]]), jnp.array([[1, 2]]))[0, 0].tolist()
      [[True, False], [False, True]]

    """
    length, keys = query_segments.shape[1], key_segments.shape[1]
    back = offset + jnp.arange(length)[:, None] - jnp.arange(keys)[None, :]
    seen = back >= 0 if window is None else (back >= 0) & (back < window)
    same = query_segments[:, None, :, None] == key_segments[:, None, None, :]
    return same & seen[None, None]


def _fits_splash(query: Float[Array, "B L H head_dim"], device: Any, mesh: Mesh | None) -> bool:
    """Whether "auto" may hand whole rows to the kernel."""
    # Without a mesh nothing says how to divide the kernel, and the compiler refuses to.
    divisible = mesh is not None or jax.device_count() == 1
    long = query.shape[1] >= TILE
    return device.platform == "tpu" and long and divisible and takes_precision(query.dtype)


def _causal_mask(length: int, window: int | None) -> Bool[Array, "1 1 L L"]:
    ones = jnp.ones((1, length), jnp.int32)
    return segment_mask(ones, ones, 0, window)


def _capped(
    query: Float[Array, "B L H head_dim"],
    key: Float[Array, "B S K head_dim"],
    value: Float[Array, "B S K head_dim"],
    mask: Bool[Array, "rows 1 L S"],
    *,
    scale: float,
    softcap: float,
) -> Float[Array, "B L H head_dim"]:
    """Attention with capped scores, which jax.nn.dot_product_attention does not have."""
    b, length, heads, width = query.shape
    groups = key.shape[2]
    grouped = query.reshape(b, length, groups, heads // groups, width)
    scores = jnp.einsum("blkgd,bskd->bkgls", grouped, key, preferred_element_type=jnp.float32)
    scores = softcap * jnp.tanh(scores * (scale / softcap))
    scores = jnp.where(mask[:, :, None], scores, jnp.finfo(jnp.float32).min)
    shares = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    return jnp.einsum("bkgls,bskd->blkgd", shares, value).reshape(query.shape)
