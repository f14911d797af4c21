# SPDX-License-Identifier: Apache-2.0
"""The key/value cache of generation."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float, Int

from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.sharding import partition_spec

AXES = ("layers", "batch", "kv_heads", None, "head_dim")
"""Logical axes of keys and values: rows over data and fsdp, heads over tensor."""

Stack = Float[Array, "layers B K S head_dim"]
One = Float[Array, "B K S head_dim"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Cache:
    """Keys and values of S slots, of which the first `index` are written, the same in every row.

    bytes = 2 layers B K S head_dim itemsize

    Keys are stored rotated, so their positions are not needed again. Slots are neighbours in
    memory, head by head, which is how attention reads them. Local layers keep all S slots too and
    see the last `window` of them: that costs memory only where prompt and answer together are
    longer than the window, and it lets all layers share one array.
    """

    keys: Stack | tuple[One, ...] | One
    """Of all layers in one array, of each in its own (see `apart`), or of one layer."""
    values: Stack | tuple[One, ...] | One
    segments: Int[Array, "B S"]
    """Segment of every slot; 0 is padding or not written yet."""
    index: Int[Array, ""]
    """The slot that the next token is written to."""

    def write(
        self,
        layer: Int[Array, ""] | None,
        key: Float[Array, "B L K head_dim"],
        value: Float[Array, "B L K head_dim"],
    ) -> "Cache":
        """The cache with a layer's new keys and values in the slots from `index` on.

        Args:
          layer: number of the layer; None where the cache is of one layer.
          key: rotated keys of the new tokens.
          value: their values.

        """

        def put(old: Any, new: Array) -> Array:
            new = jnp.swapaxes(new, 1, 2).astype(old.dtype)
            at = (0, 0, self.index, 0)
            if layer is None:
                return jax.lax.dynamic_update_slice(old, new, at)
            return jax.lax.dynamic_update_slice(old, new[None], (layer, *at))

        return replace(self, keys=put(self.keys, key), values=put(self.values, value))

    def read(
        self, layer: Int[Array, ""] | None, dtype: Any
    ) -> tuple[Float[Array, "B S K head_dim"], Float[Array, "B S K head_dim"]]:
        """Keys and values of all slots of a layer (None: of the only one), in the type given."""

        def get(x: Any) -> Array:
            one = x if layer is None else jax.lax.dynamic_index_in_dim(x, layer, keepdims=False)
            return jnp.swapaxes(one, 1, 2).astype(dtype)

        return get(self.keys), get(self.values)

    def grown(self, slots: int) -> "Cache":
        """The cache with so many slots more, not written yet."""

        def pad(x: Any, axis: int) -> Array:
            return jnp.pad(x, [(0, slots if i == axis else 0) for i in range(x.ndim)])

        keys, values = (jax.tree.map(lambda x: pad(x, x.ndim - 2), x) for x in self._both())
        return replace(self, keys=keys, values=values, segments=pad(self.segments, 1))

    def apart(self) -> "Cache":
        """The same with an array for each layer, so that none is cut out of a stack."""
        keys, values = (tuple(x[i] for i in range(len(x))) for x in self._both())
        return replace(self, keys=keys, values=values)

    def _both(self) -> tuple[Any, Any]:
        return self.keys, self.values


def make_cache(
    config: DecoderConfig,
    *,
    rows: int,
    length: int,
    dtype: str | None = None,
    mesh: Mesh | None = None,
) -> Cache:
    """An empty cache with `length` slots for each of `rows` rows.

    Args:
      config: of the decoder.
      rows: B.
      length: S.
      dtype: of keys and values; None: the compute dtype.
      mesh: where rows are divided over data and fsdp, heads over tensor, each if the number of
        them divides; what is computed from the cache keeps that. None leaves it to the compiler.

    Example:
      >>> config = DecoderConfig.scratch(vocab_size=8, width=8, heads=2)
      >>> make_cache(config, rows=3, length=5, dtype="bfloat16").keys.shape
      (2, 3, 2, 5, 4)

    """
    shape = (config.layers, rows, config.kv_heads, length, config.head_dim)

    def empty() -> Array:
        zeros = jnp.zeros(shape, dtype or config.dtype)
        if mesh is None:
            return zeros
        sharding = NamedSharding(mesh, partition_spec(AXES, shape, mesh))
        return jax.lax.with_sharding_constraint(zeros, sharding)

    return Cache(
        keys=empty(),
        values=empty(),
        segments=jnp.zeros((rows, length), jnp.int32),
        index=jnp.zeros((), jnp.int32),
    )
