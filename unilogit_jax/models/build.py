# SPDX-License-Identifier: Apache-2.0
"""Making a decoder's parameters, and what can be known of them without making any."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from unilogit_jax.errors import ConfigError
from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.models.decoder import Decoder
from unilogit_jax.models.generic import Model
from unilogit_jax.sharding import tree_shardings
from unilogit_jax.types import Batch, ModelOutput

Params = dict[str, Any]
"""Nested dicts of arrays."""


def at(tree: Params, path: Sequence[str]) -> Any:
    """The entry of nested dicts at a path of keys."""
    for key in path:
        tree = tree[key]
    return tree


def put(tree: Params, path: Sequence[str], value: Any) -> None:
    """Sets the entry of nested dicts at a path of keys, making dicts on the way."""
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def init(
    config: DecoderConfig, key: jax.Array, *, mesh: Mesh | None = None
) -> tuple[Decoder, Params]:
    """A decoder with fresh parameters.

    Args:
      config: sizes and switches.
      key: random key; the same key gives the same values on every mesh.
      mesh: each device makes and holds only its part of the parameters.

    Returns:
      (model, params).

    Example:
      >>> config = DecoderConfig.scratch(vocab_size=16, width=8, heads=2)
      >>> model, params = init(config, jax.random.key(0))
      >>> params["layers"]["attn"]["q_proj"]["kernel"].shape
      (2, 8, 2, 4)

    """
    model = Decoder(config, mesh=mesh)
    make = jax.jit(
        partial(_values, model),
        out_shardings=None if mesh is None else param_shardings(model, mesh),
    )
    return model, make(key)


def param_shapes(model: Decoder) -> Params:
    """Shapes and dtypes of the parameters; nothing is allocated.

    Example:
      >>> param_shapes(Decoder(DecoderConfig.scratch(vocab_size=16, width=8, heads=2)))["embed"]
      {'kernel': ShapeDtypeStruct(shape=(16, 8), dtype=float32)}

    """
    return _unbox(_outline(model.config), lambda box: box.value)


def logical_axes(model: Decoder) -> Params:
    """The logical name of every parameter's axes, a tuple per parameter.

    Example:
      >>> logical_axes(Decoder(DecoderConfig.scratch(vocab_size=16, width=8, heads=2)))["embed"]
      {'kernel': ('vocab', 'embed')}

    """
    return _unbox(_outline(model.config), lambda box: box.names)


def param_shardings(model: Decoder, mesh: Mesh) -> Params:
    """Where each parameter lives on the mesh."""
    return tree_shardings(logical_axes(model), param_shapes(model), mesh)


def input_axes(axes: Sequence[str]) -> int:
    """How many axes of a linear layer's kernel, behind that of the layers, are summed over.

    Args:
      axes: the logical names of all of them, as in `logical_axes`.

    Example:
      >>> input_axes(("layers", "embed", "heads", "head_dim"))
      1
      >>> input_axes(("layers", "heads", "head_dim", "embed"))
      2

    """
    # A layer reads the stream ("embed" is all its input), or else it writes to it.
    return 1 if axes[1] == "embed" else len(axes) - 2


def apply_fn(model: Model) -> Callable[[Params, Batch], ModelOutput]:
    """The model, or two read as one, as a pure function of parameters and a packed batch."""

    def apply(params: Params, batch: Batch) -> ModelOutput:
        text = batch.tokens, batch.segments, batch.positions
        output = model.apply({"params": params}, *text, unseen=batch.unseen)
        assert isinstance(output, ModelOutput)
        return output

    return apply


def to_layer(model: Decoder, layer: int) -> Decoder:
    """The model cut off behind one layer: its output is the stream there, without the final norm.

    Parameters are those of the whole model. What lies above the layer is neither run nor given a
    gradient, so it should not be trained either: an optimizer would keep state for it, and weight
    decay would shrink it. `trainable: [layers.5-7.mlp.down_proj]` says which weights are.

    Args:
      model: the whole model.
      layer: counted from 0; negative ones are not understood.

    Raises:
      ConfigError: the model has no such layer.

    Example:
      >>> to_layer(Decoder(DecoderConfig.scratch(vocab_size=16, width=8, heads=2)), 0).depth
      1

    """
    if not 0 <= layer < model.config.layers:
        raise ConfigError(
            f"method.layer {layer}: this model has no such layer; it has layers 0 to "
            f"{model.config.layers - 1}."
        )
    return model.clone(depth=layer + 1)


def layer_fn(model: Decoder, layer: int) -> Callable[[Params, Batch], ModelOutput]:
    """As `apply_fn`, of the model up to one layer: `hidden` is that layer's output.

    The head is the model's own and belongs to other hidden states. Layers count as in Hugging Face
    `model.layers[layer]`. `to_layer` says what is refused.
    """
    return apply_fn(to_layer(model, layer))


@lru_cache(maxsize=64)
def _outline(config: DecoderConfig) -> Any:
    """Shapes and the names of their axes; kept, for a start asks often and each is a trace."""
    return jax.eval_shape(partial(_boxed, Decoder(config)), jax.random.key(0))


def _boxed(model: Decoder, key: jax.Array) -> Any:
    # Parameters do not depend on the kernel of attention, which may be one of another machine.
    model = model.clone(config=dataclasses.replace(model.config, attention="xla"))
    return model.init(key, jnp.zeros((1, 1), jnp.int32))["params"]


def _values(model: Decoder, key: jax.Array) -> Params:
    return _unbox(_boxed(model, key), lambda box: box.value)


def _unbox(boxed: Any, pick: Callable[[Any], Any]) -> Params:
    """Flax's own unboxing would move arrays when some mesh is active; this one only unwraps."""
    return jax.tree.map(pick, boxed, is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned))
