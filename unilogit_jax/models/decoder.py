# SPDX-License-Identifier: Apache-2.0
"""The decoder: one Flax Linen module, shaped by its configuration, layers stacked and scanned."""

import dataclasses
from typing import Any, Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Bool, Float, Int

from unilogit_jax.models.attention import Sight, hide, look
from unilogit_jax.models.cache import Cache
from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.models.layer import Layer, Norm, parameter
from unilogit_jax.models.rope import rope_table
from unilogit_jax.models.runs import Run, layer_runs
from unilogit_jax.sharding import partition_spec
from unilogit_jax.types import Head, ModelOutput

Stream = tuple[Float[Array, "B L D"], Cache | None]
Tables = dict[bool, tuple[Array, Array] | None]
_POLICIES = {
    "full": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


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
    remat: Literal["none", "dots", "full"] = "none"
    """What the backward pass computes again: "full" all but the layers' inputs, "dots" all but
    these and the outputs of linear layers, "none" nothing."""
    trained: tuple[int, int] | None = None
    """Layers begin..end-1, the only ones whose weights have gradients; None: all have. Where
    nothing below them has any either, the backward pass ends at the first of them."""
    depth: int | None = None
    """Layers that are run; None: all, and the final norm."""
    every_layer: bool = False
    """Whether the output holds, in `layers`, the stream behind each layer through the final norm;
    without a cache only."""

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "B L"],
        segments: Int[Array, "B L"] | None = None,
        positions: Int[Array, "B L"] | None = None,
        cache: Cache | None = None,
        unseen: Bool[Array, "B L"] | None = None,
    ) -> ModelOutput | tuple[ModelOutput, Cache]:
        """Hidden states of every position and the head.

        Args:
          tokens: token ids.
          segments: a token sees earlier ones of its own segment; 0 is padding. Default: all 1.
          positions: place of each token in its text. Default: counted from the row's beginning.
          cache: keys and values of earlier tokens of the same rows; the new ones are added.
          unseen: tokens that no other token sees, now or later; they keep their positions.

        Returns:
          The output, with hidden [B, L, D] after the final norm, or that of the last layer of
          `depth`; with a cache, (output, new cache).

        """
        config, length = self.config, tokens.shape[1]
        start = 0 if cache is None else cache.index
        if positions is None:
            positions = (start + jnp.arange(length))[None, :]
        if segments is None and (cache is not None or unseen is not None):
            segments = jnp.ones_like(tokens)
        query_segments = key_segments = segments
        if segments is not None and unseen is not None:
            query_segments, key_segments = hide(segments, unseen)
        if cache is not None:
            assert key_segments is not None
            key_segments = jax.lax.dynamic_update_slice(
                cache.segments, key_segments.astype(cache.segments.dtype), (0, start)
            )
            cache = dataclasses.replace(cache, segments=key_segments)
        kinds = {config.is_local(i) for i in range(config.layers)}
        sights = {
            local: look(query_segments, key_segments, start, config.window if local else None)
            for local in kinds
        }
        tables = {local: self._rotary(positions, segments, local) for local in kinds}

        embedding, _ = self._table("embed", config.vocab_size, "vocab")
        x = self._embed(embedding, tokens, positions)
        (x, cache), streams = self._run_layers((x, cache), sights, tables)
        norm = Norm(config, config.width, name="norm")
        layers = tuple(norm(jnp.concatenate(streams))) if self.every_layer else None
        if self.depth is None:
            x = norm(x)
        output = ModelOutput(hidden=x, head=self._head(embedding), layers=layers)
        if cache is None:
            return output
        return output, dataclasses.replace(cache, index=cache.index + length)

    def _embed(
        self,
        embedding: Float[Array, "V D"],
        tokens: Int[Array, "B L"],
        positions: Int[Array, "rows L"],
    ) -> Float[Array, "B L D"]:
        config = self.config
        x = jnp.take(embedding, tokens, axis=0).astype(config.dtype)
        if config.embedding_scale is not None:
            x = x * jnp.asarray(config.embedding_scale, x.dtype)
        if config.rope is None:
            places, _ = self._table("positions", config.max_length, "positions")
            x = x + jnp.take(places, positions, axis=0).astype(config.dtype)
        return pin(x, self.mesh)

    def _rotary(
        self, positions: Int[Array, "rows L"], segments: Int[Array, "B L"] | None, local: bool
    ) -> tuple[Array, Array] | None:
        config = self.config
        rope = config.local_rope if local and config.local_rope is not None else config.rope
        if rope is None:
            return None
        return rope_table(positions, rope, config.head_dim, config.dtype, segments)

    def _head(self, embedding: Float[Array, "V D"]) -> Head:
        config, kernel, bias = self.config, embedding, None
        if not config.tie_embeddings:
            size = config.vocab_size
            kernel, bias = self._table("lm_head", size, "vocab", bias=config.head_bias)
        return Head(kernel=kernel, bias=bias, layout="vd", softcap=config.final_softcap)

    def _table(
        self, name: str, rows: int, axis: str, bias: bool = False
    ) -> tuple[Float[Array, "rows D"], Float[Array, " rows"] | None]:
        return Table(self.config, (rows, self.config.width), axis, bias, name=name)()

    def _run_layers(
        self, stream: Stream, sights: dict[bool, Sight], tables: Tables
    ) -> tuple[Stream, list[Any]]:
        """The stream behind the last layer, and with `every_layer` behind each, in parts."""
        config = self.config
        adapters = self.variables.get("lora", {}).get("layers")
        apart = self.variables.get("params", {}).get("layers")
        if isinstance(apart, tuple):
            return self._one_by_one(apart, adapters, stream, sights, tables), []
        params = self.param("layers", self._stacked, stream, sights, tables)
        stacked = {"params": params} | ({} if adapters is None else {"lora": adapters})
        depth = config.layers if self.depth is None else self.depth
        streams = []
        for run in layer_runs(depth, config.local_layers[:depth], self.trained or ()):
            stream, outputs = self._scan(run, stacked, stream, sights, tables)
            streams.append(outputs)
        return stream, streams

    def _scan(
        self, run: Run, stacked: dict[str, Any], stream: Stream, sights: dict, tables: Tables
    ) -> tuple[Stream, Array | None]:
        """Runs of equal periods: the kinds of layers within one period are known when compiling."""
        period, indexed = len(run.kinds), stream[1] is not None
        if self.trained is not None and not self.trained[0] <= run.start < self.trained[1]:
            # Cut out, the weights would be copied.
            stacked, indexed = jax.lax.stop_gradient(stacked), True
        keys = self.make_rng("lora") if self.has_rng("lora") else None

        def body(stream: Stream, xs: Any) -> tuple[Stream, Array | None]:
            first, weights = xs
            outputs = []
            for k, local in enumerate(run.kinds):
                at, held = (first + k, stacked) if indexed else (k, weights)
                at = None if period == 1 and not indexed else at
                where = sights[local], tables[local], keys, at
                stream = self._layer(local, held, stream, first + k, *where)
                outputs.append(stream[0])
            return stream, jnp.stack(outputs) if self.every_layer else None

        def periods(x: Array) -> Array:
            part = x if run.stop - run.start == len(x) else x[run.start : run.stop]
            # Reshaped, the weights would be copied.
            return part if period == 1 else part.reshape(-1, period, *x.shape[1:])

        firsts = jnp.arange(run.start, run.stop, period)
        # A step of generation would copy all weights in order to reshape them.
        weights = None if indexed else jax.tree.map(periods, stacked)
        stream, outputs = jax.lax.scan(body, stream, (firsts, weights))
        if outputs is not None:
            outputs = outputs.reshape(-1, *outputs.shape[2:])
        return stream, outputs

    def _one_by_one(
        self,
        layers: tuple[Any, ...],
        adapters: Any,
        stream: Stream,
        sights: dict[bool, Sight],
        tables: Tables,
    ) -> Stream:
        """Layers and caches given apart, for a step that cuts nothing out of a stack."""
        x, cache = stream
        assert cache is not None
        keys, values = [], []
        for i, one in enumerate(layers):
            local = self.config.is_local(i)
            variables = {"params": one}
            if adapters is not None:
                variables["lora"] = jax.tree.map(lambda x, i=i: x[i], adapters)
            own = dataclasses.replace(cache, keys=cache.keys[i], values=cache.values[i])
            x, own = self._layer(local, variables, (x, own), None, sights[local], tables[local])
            assert own is not None
            keys.append(own.keys)
            values.append(own.values)
        return x, dataclasses.replace(cache, keys=tuple(keys), values=tuple(values))

    def _layer(
        self,
        local: bool,
        variables: dict[str, Any],
        stream: Stream,
        index: Int[Array, ""] | None,
        sight: Sight,
        table: tuple[Array, Array] | None,
        keys: Array | None = None,
        at: Int[Array, ""] | int | None = None,
    ) -> Stream:
        layer = Layer(self.config, self.mesh, parent=None)
        rngs = None
        if keys is not None and index is not None:
            rngs = {"lora": jax.random.fold_in(keys, index)}

        def apply(variables: dict[str, Any], stream: Stream) -> Stream:
            # In here: a backward pass then computes the choice again and keeps no copy.
            if at is not None:
                variables = jax.tree.map(lambda x: x[at], variables)
            result = layer.apply(variables, *stream, index, table, sight, rngs=rngs)
            x, cache = cast(Stream, result)
            return pin(x, self.mesh), cache

        if self.remat != "none":
            policy = _POLICIES[self.remat]
            apply = jax.checkpoint(apply, prevent_cse=False, policy=policy)
        return apply(variables, stream)

    def _stacked(
        self, key: Array, stream: Stream, sights: dict[bool, Sight], tables: Tables
    ) -> Any:
        """Fresh parameters of all layers, stacked on a leading axis; every kind has the same."""
        local = next(iter(sights))
        layer = Layer(self.config, self.mesh, parent=None)

        def make(key: Array) -> Any:
            index = jnp.zeros((), jnp.int32)
            return layer.init(key, *stream, index, tables[local], sights[local])["params"]

        boxed = jax.vmap(make)(jax.random.split(key, self.config.layers))
        return jax.tree.map(
            lambda box: box.add_axis(0, {nn.PARTITION_NAME: "layers"}),
            boxed,
            is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned),
        )


class Table(nn.Module):
    """A table of rows as wide as the model: embedding, positions or output head."""

    config: DecoderConfig
    shape: tuple[int, int]
    axis: str
    bias: bool = False

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "rows D"], Float[Array, " rows"] | None]:
        """The table and its bias, as stored."""
        init = nn.initializers.normal(self.config.init_scale)
        kernel = parameter(self, "kernel", init, self.shape, (self.axis, "embed"))
        if not self.bias:
            return kernel, None
        zeros = nn.initializers.zeros
        return kernel, parameter(self, "bias", zeros, self.shape[:1], (self.axis,))


def pin(x: Array, mesh: Mesh | None) -> Array:
    """The stream with its rows divided over the mesh, so that weights and not rows are gathered."""
    if mesh is None:
        return x
    spec = partition_spec(("batch", None, None), x.shape, mesh)
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))
