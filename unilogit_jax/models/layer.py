# SPDX-License-Identifier: Apache-2.0
"""One layer of the decoder: attention, MLP and norms, in the order that its configuration says."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from unilogit_jax.models.attention import Sight, attention
from unilogit_jax.models.cache import Cache
from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.models.rope import rotate

ACTIVATIONS = {
    "silu": nn.silu,
    "gelu": lambda x: nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: nn.gelu(x, approximate=True),
    "relu": nn.relu,
}


class Layer(nn.Module):
    """Attention and MLP, each added to the stream."""

    config: DecoderConfig
    mesh: Mesh | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L D"],
        cache: Cache | None,
        index: Int[Array, ""] | None,
        table: tuple[Array, Array] | None,
        sight: Sight,
    ) -> tuple[Float[Array, "B L D"], Cache | None]:
        """The stream after this layer, and the cache with its keys and values.

        Args:
          x: the stream.
          cache: keys and values of earlier tokens, or None.
          index: number of this layer in the cache; None: the cache is this layer's own.
          table: cosine and sine of the positions, or None where positions are not rotated.
          sight: what each token sees.

        """
        c = self.config

        def normed(name: str, x: Array, *, where: tuple[str, ...]) -> Array:
            return Norm(c, c.width, name=name)(x) if c.block in where else x

        before = ("pre", "sandwich", "parallel", "parallel_shared")
        after = ("post", "sandwich")
        first = normed("attn_norm", x, where=before)
        mixed, cache = Attention(c, self.mesh, name="attn")(first, cache, index, table, sight)
        mixed = normed("attn_post_norm", mixed, where=after)
        if c.block.startswith("parallel"):
            second = normed("mlp_norm", x, where=("parallel",))
            second = first if c.block == "parallel_shared" else second
            return x + mixed + Mlp(c, name="mlp")(second), cache
        x = x + mixed
        second = Mlp(c, name="mlp")(normed("mlp_norm", x, where=("pre", "sandwich")))
        return x + normed("mlp_post_norm", second, where=after), cache


class Attention(nn.Module):
    """Attention with grouped queries; rotary positions where there is a table."""

    config: DecoderConfig
    mesh: Mesh | None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L D"],
        cache: Cache | None,
        index: Int[Array, ""] | None,
        table: tuple[Array, Array] | None,
        sight: Sight,
    ) -> tuple[Float[Array, "B L D"], Cache | None]:
        """The attention's addition to the stream, and the cache with this layer's new entries."""
        c = self.config

        def project(name: str, heads: int, axis: str) -> Array:
            shape, axes = (c.width, heads, c.head_dim), ("embed", axis, "head_dim")
            return Linear(c, shape, axes, bias=c.qkv_bias, name=name)(x)

        q = project("q_proj", c.heads, "heads")
        k = project("k_proj", c.kv_heads, "kv_heads")
        v = project("v_proj", c.kv_heads, "kv_heads")
        if c.qk_norm != "none":
            q = self._qk_norm("q_norm", q, "heads")
            k = self._qk_norm("k_norm", k, "kv_heads")
        if table is not None:
            q, k = rotate(q, *table), rotate(k, *table)
        if cache is not None:
            cache = cache.write(index, k, v)
            k, v = cache.read(index, q.dtype)
        mixed = attention(
            q,
            k,
            v,
            sight,
            scale=c.attention_scale,
            softcap=c.attention_softcap,
            kernel=c.attention,
            mesh=self.mesh,
        )
        shape, axes = (c.heads, c.head_dim, c.width), ("heads", "head_dim", "embed")
        return Linear(c, shape, axes, inputs=2, bias=c.out_bias, name="o_proj")(mixed), cache

    def _qk_norm(self, name: str, x: Array, axis: str) -> Array:
        c = self.config
        if c.qk_norm == "head":
            return Norm(c, c.head_dim, name=name)(x)
        return Norm(c, x.shape[2:], (axis, "head_dim"), name=name)(x)


class Mlp(nn.Module):
    """down(act(gate x) * up x), or down(act(up x)) without a gate."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        """The MLP's addition to the stream."""
        c = self.config
        wide, axes, act = (c.width, c.mlp_width), ("embed", "mlp"), ACTIVATIONS[c.activation]
        up = Linear(c, wide, axes, bias=c.mlp_bias, name="up_proj")(x)
        if c.gated:
            hidden = act(Linear(c, wide, axes, bias=c.mlp_bias, name="gate_proj")(x)) * up
        else:
            hidden = act(up)
        return Linear(c, wide[::-1], axes[::-1], bias=c.mlp_bias, name="down_proj")(hidden)


class Linear(nn.Module):
    """x times a kernel whose first `inputs` axes are summed over, plus a bias where there is one.

    Where the collection "lora" holds factors `a` and `b` for it, it adds x a b. A `rate` beside
    them drops that share of the entries of x for this addition, if random keys "lora" are given.
    """

    config: DecoderConfig
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    inputs: int = 1
    bias: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "*T"]) -> Float[Array, "*U"]:
        """The product, in the compute dtype."""
        dtype, n = self.config.dtype, self.inputs
        init = nn.initializers.normal(self.config.init_scale)
        kernel = parameter(self, "kernel", init, self.shape, self.axes)
        y = jnp.tensordot(x, kernel.astype(dtype), axes=n)
        if self.bias:
            zeros = nn.initializers.zeros
            bias = parameter(self, "bias", zeros, self.shape[n:], self.axes[n:])
            y = y + bias.astype(dtype).reshape(*(1,) * (y.ndim - bias.ndim), *bias.shape)
        if self.has_variable("lora", "a"):
            a, b = self.get_variable("lora", "a"), self.get_variable("lora", "b")
            x = self._dropped(x)
            y = y + jnp.tensordot(jnp.tensordot(x, a.astype(dtype), axes=n), b.astype(dtype), 1)
        return y

    def _dropped(self, x: Float[Array, "*T"]) -> Float[Array, "*T"]:
        if not (self.has_variable("lora", "rate") and self.has_rng("lora")):
            return x
        keep = 1.0 - self.get_variable("lora", "rate")
        kept = jax.random.bernoulli(self.make_rng("lora"), keep, x.shape)
        return jnp.where(kept, x / keep.astype(x.dtype), jnp.zeros((), x.dtype))


class Norm(nn.Module):
    """RMS norm (arXiv:1910.07467) in one of three rounding orders, or LayerNorm (arXiv:1607.06450).

    Computed in float32 over the axes of its weight; where the result is rounded to the compute
    dtype, before or after the weight, differs from family to family.
    """

    config: DecoderConfig
    shape: int | tuple[int, ...]
    axes: tuple[str, ...] = ("norm",)

    @nn.compact
    def __call__(self, x: Float[Array, "*T"]) -> Float[Array, "*T"]:
        """The normalised values."""
        kind, eps = self.config.norm, self.config.norm_eps
        shape = (self.shape,) if isinstance(self.shape, int) else self.shape
        over = tuple(range(-len(shape), 0))
        ones, zeros = nn.initializers.ones, nn.initializers.zeros
        scale = parameter(self, "scale", zeros if kind == "rms_one" else ones, shape, self.axes)
        scale = scale.reshape(*(1,) * (x.ndim - len(shape)), *shape)
        x32 = x.astype(jnp.float32)
        if kind == "layer":
            x32 = x32 - jnp.mean(x32, axis=over, keepdims=True)
        x32 = x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=over, keepdims=True) + eps)
        if kind == "rms":
            return x32.astype(x.dtype) * scale.astype(x.dtype)
        y = x32 * (scale.astype(jnp.float32) + (1.0 if kind == "rms_one" else 0.0))
        if kind == "layer":
            bias = parameter(self, "bias", zeros, shape, self.axes)
            y = y + bias.astype(jnp.float32).reshape(scale.shape)
        return y.astype(x.dtype)


def parameter(
    module: nn.Module, name: str, init: Any, shape: tuple[int, ...], axes: tuple[str, ...]
) -> Any:
    """A parameter, declared with the logical names of its axes; drawn in float32."""
    dtype = module.config.param_dtype

    def make(*arguments: Any) -> Array:
        return init(*arguments, jnp.float32).astype(dtype)

    return module.param(name, nn.with_logical_partitioning(make, axes), shape)
