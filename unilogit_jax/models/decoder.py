# SPDX-License-Identifier: Apache-2.0
"""The decoder: one Flax Linen module, shaped by its configuration, layers stacked and scanned."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Bool, Float, Int

from unilogit_jax.models.attention import attention, segment_mask
from unilogit_jax.models.cache import Cache
from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.models.rope import rope_frequencies, rope_table, rotate
from unilogit_jax.sharding import partition_spec
from unilogit_jax.types import Head, ModelOutput


class Decoder(nn.Module):
    """Token ids to hidden states and the head that makes logits of them.

    Example:
      >>> config = DecoderConfig.scratch(vocab_size=16, width=8, heads=2)
      >>> model, tokens = Decoder(config), jnp.ones((2, 3), jnp.int32)
      >>> variables = model.init(jax.random.key(0), tokens)
      >>> model.apply(variables, tokens).logits().shape
      (2, 3, 16)

    """

    config: DecoderConfig
    mesh: Mesh | None = None
    """Where activations are pinned to (rows over data and fsdp); None leaves it to the compiler."""
    remat: bool = False
    """Keep only the layers' inputs for the backward pass and compute the rest again."""

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "B L"],
        segments: Int[Array, "B L"] | None = None,
        positions: Int[Array, "B L"] | None = None,
        cache: Cache | None = None,
    ) -> ModelOutput | tuple[ModelOutput, Cache]:
        """Hidden states of every position and the head.

        Args:
          tokens: token ids.
          segments: a token sees earlier ones of its own segment; 0 is padding. Default: all 1.
          positions: place of each token in its text. Default: counted from the row's beginning.
          cache: keys and values of earlier tokens of the same rows; the new ones are added.

        Returns:
          The output, with hidden [B, L, D] after the final norm; with a cache, (output, new cache).

        """
        config, length = self.config, tokens.shape[1]
        start = 0 if cache is None else cache.index
        if positions is None:
            positions = (start + jnp.arange(length))[None, :]
        mask = None
        if cache is not None:
            segments = jnp.ones_like(tokens) if segments is None else segments
            written = jax.lax.dynamic_update_slice(
                cache.segments, segments.astype(cache.segments.dtype), (0, start)
            )
            cache = dataclasses.replace(cache, segments=written)
            mask = segment_mask(segments, written, start)
        elif segments is not None:
            mask = segment_mask(segments, segments)
        frequencies = rope_frequencies(config.rope, config.head_dim)
        table = rope_table(positions, frequencies, config.dtype)

        shape = (config.vocab_size, config.width)
        embedding = Table(config, shape, name="embed")()
        x = jnp.take(embedding, tokens, axis=0).astype(config.dtype)
        (x, cache), _ = self._layers()(
            (_pin(x, self.mesh), cache), jnp.arange(config.layers), table, mask
        )
        x = Norm(config, name="norm")(x)
        kernel = embedding if config.tie_embeddings else Table(config, shape, name="lm_head")()
        output = ModelOutput(hidden=x, head=Head(kernel=kernel, layout="vd"))
        if cache is None:
            return output
        return output, dataclasses.replace(cache, index=cache.index + length)

    def _layers(self) -> Any:
        layer = nn.remat(Layer, prevent_cse=False) if self.remat else Layer
        scanned = nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast),  # pyright: ignore[reportArgumentType]
            length=self.config.layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        return scanned(self.config, self.mesh, name="layers")


class Layer(nn.Module):
    """One pre-norm block: attention and MLP, each added to the stream."""

    config: DecoderConfig
    mesh: Mesh | None

    @nn.compact
    def __call__(
        self,
        carry: tuple[Float[Array, "B L D"], Cache | None],
        layer: Int[Array, ""],
        table: tuple[Array, Array],
        mask: Bool[Array, "B 1 L S"] | None,
    ) -> tuple[tuple[Float[Array, "B L D"], Cache | None], None]:
        """The stream and the cache after this layer, in the form that scan wants."""
        x, cache = carry
        mixed = Norm(self.config, name="attn_norm")(x)
        mixed, cache = Attention(self.config, name="attn")(mixed, cache, layer, table, mask)
        x = _pin(x + mixed, self.mesh)
        x = x + Mlp(self.config, name="mlp")(Norm(self.config, name="mlp_norm")(x))
        return (_pin(x, self.mesh), cache), None


class Attention(nn.Module):
    """Rotary attention with grouped queries."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L D"],
        cache: Cache | None,
        layer: Int[Array, ""],
        table: tuple[Array, Array],
        mask: Bool[Array, "B 1 L S"] | None,
    ) -> tuple[Float[Array, "B L D"], Cache | None]:
        """The attention's addition to the stream, and the cache with this layer's new entries."""
        c = self.config
        many, few = (c.width, c.heads, c.head_dim), (c.width, c.kv_heads, c.head_dim)
        few_axes = ("embed", "kv_heads", "head_dim")
        q = Linear(c, many, ("embed", "heads", "head_dim"), name="q_proj")(x)
        k = Linear(c, few, few_axes, name="k_proj")(x)
        v = Linear(c, few, few_axes, name="v_proj")(x)
        q, k = rotate(q, *table), rotate(k, *table)
        if cache is not None:
            cache = _write(cache, layer, k, v)
            k = jax.lax.dynamic_index_in_dim(cache.keys, layer, keepdims=False)
            v = jax.lax.dynamic_index_in_dim(cache.values, layer, keepdims=False)
        mixed = attention(q, k, v, mask)
        shape, axes = (c.heads, c.head_dim, c.width), ("heads", "head_dim", "embed")
        return Linear(c, shape, axes, inputs=2, name="o_proj")(mixed), cache


class Mlp(nn.Module):
    """SwiGLU: down(silu(gate x) * up x)."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        """The MLP's addition to the stream."""
        c = self.config
        wide, axes = (c.width, c.mlp_width), ("embed", "mlp")
        gate = Linear(c, wide, axes, name="gate_proj")(x)
        up = Linear(c, wide, axes, name="up_proj")(x)
        return Linear(c, wide[::-1], axes[::-1], name="down_proj")(nn.silu(gate) * up)


class Linear(nn.Module):
    """x times a kernel whose first `inputs` axes are summed over; no bias."""

    config: DecoderConfig
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    inputs: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "*T"]) -> Float[Array, "*U"]:
        """The product, in the compute dtype."""
        init = nn.initializers.normal(self.config.init_scale)
        kernel = _param(self, "kernel", init, self.shape, self.axes)
        return jnp.tensordot(x, kernel.astype(self.config.dtype), axes=self.inputs)


class Table(nn.Module):
    """A vocabulary-sized table, [V, D]: embedding or output head."""

    config: DecoderConfig
    shape: tuple[int, ...]

    @nn.compact
    def __call__(self) -> Float[Array, "V D"]:
        """The table itself, as stored."""
        init = nn.initializers.normal(self.config.init_scale)
        return _param(self, "kernel", init, self.shape, ("vocab", "embed"))


class Norm(nn.Module):
    """x / rms(x) * scale, arXiv:1910.07467, rounded to the compute dtype before the scale."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        """The normalised stream."""
        scale = _param(self, "scale", nn.initializers.ones, (self.config.width,), ("norm",))
        x32 = x.astype(jnp.float32)
        mean = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
        normed = (x32 * jax.lax.rsqrt(mean + self.config.norm_eps)).astype(x.dtype)
        return normed * scale.astype(x.dtype)[None, None, :]


def _param(
    module: nn.Module, name: str, init: Any, shape: tuple[int, ...], axes: tuple[str, ...]
) -> Any:
    """A float32 parameter, declared with the logical names of its axes."""
    return module.param(name, nn.with_logical_partitioning(init, axes), shape, jnp.float32)


def _write(cache: Cache, layer: Array, key: Array, value: Array) -> Cache:
    """The cache with one layer's new keys and values in place."""
    at = (layer, 0, cache.index, 0, 0)
    return dataclasses.replace(
        cache,
        keys=jax.lax.dynamic_update_slice(cache.keys, key[None], at),
        values=jax.lax.dynamic_update_slice(cache.values, value[None], at),
    )


def _pin(x: Array, mesh: Mesh | None) -> Array:
    """The stream with its rows divided over the mesh, so that weights and not rows are gathered."""
    if mesh is None:
        return x
    spec = partition_spec(("batch", None, None), x.shape, mesh)
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))
