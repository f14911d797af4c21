# SPDX-License-Identifier: Apache-2.0
"""Low-rank adapters (LoRA): a tree of factors beside frozen weights, applied or merged."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array

from unilogit_jax.errors import ConfigError, suggest
from unilogit_jax.models.build import Params, input_axes, logical_axes, param_shapes, put
from unilogit_jax.models.checks import check_positive
from unilogit_jax.models.decoder import Decoder
from unilogit_jax.models.patterns import fits
from unilogit_jax.sharding import tree_shardings
from unilogit_jax.types import Batch, ModelOutput


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Which linear layers get an addition of low rank, and how strong it is.

    y = x W + (alpha / rank) (x a) b

    The adapters are a tree of their own, {"layers": {"attn": {"q_proj": {"a": [layers, *inputs,
    rank], "b": [layers, rank, *outputs]}}}}: they are what is trained, sharded, saved. They hold
    no factor alpha / rank; `scaled`, and with it `lora_apply_fn` and `merge_lora`, multiplies b by
    it, so that gradients are those of PEFT.

    Example:
      >>> from unilogit_jax import models
      >>> model = models.Decoder(models.DecoderConfig.scratch(vocab_size=16, width=8, heads=2))
      >>> adapters = Lora(rank=4, targets=("attn.*",)).init(model, jax.random.key(1))
      >>> adapters["layers"]["attn"]["o_proj"]["a"].shape
      (2, 2, 4, 4)

    Reference: arXiv:2106.09685, section 4.1.
    """

    rank: int = 8
    """Inner size of the factors."""
    alpha: float = 16.0
    """The addition is multiplied by alpha / rank."""
    dropout: float = 0.0
    """Share of the entries of x that training drops from the addition, the others scaled up."""
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    """Patterns over paths of linear layers, or over their ends: "q_proj", "layers.mlp.*", "*"."""

    def __post_init__(self) -> None:
        check_positive("lora.", self, ("rank", "alpha"))
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"lora.dropout must be at least 0 and below 1, got {self.dropout}.")
        if not self.targets:
            raise ConfigError('lora.targets is empty: name linear layers, "q_proj" say.')

    @property
    def scale(self) -> float:
        """What the product of the factors is multiplied by."""
        return self.alpha / self.rank

    def init(self, model: Decoder, key: jax.Array, *, mesh: Mesh | None = None) -> Params:
        """Fresh adapters, which change nothing yet: b is 0.

        a is uniform in +-1 / sqrt(inputs), which is what PEFT draws: Kaiming's bound
        sqrt(6 / ((1 + s^2) inputs)) with the slope s = sqrt(5).

        Args:
          model: the decoder to adapt.
          key: random key; the same key gives the same values on every mesh, and a layer's values do
            not depend on the other targets.
          mesh: each device makes and holds only its part.

        Returns:
          The float32 adapters.

        Raises:
          ConfigError: a target that is no linear layer of this model.

        """
        sites = self._sites(model)

        def draw(key: jax.Array, site: _Site) -> dict[str, Array]:
            shapes = site.insert(site.shape, self.rank)
            bound = math.prod(shapes["a"][1:-1]) ** -0.5
            own = jax.random.fold_in(key, site.number)
            a = jax.random.uniform(own, shapes["a"], minval=-bound, maxval=bound)
            return {"a": a, "b": jnp.zeros(shapes["b"])}

        make = jax.jit(
            lambda key: _map(partial(draw, key), sites),
            out_shardings=None if mesh is None else self.shardings(model, mesh),
        )
        return make(key)

    def shapes(self, model: Decoder) -> Params:
        """Shapes and dtypes of the adapters; nothing is allocated."""
        return jax.eval_shape(lambda: self.init(model, jax.random.key(0)))

    def logical_axes(self, model: Decoder) -> Params:
        """The logical names of the adapters' axes: the kernel's, and None for the rank."""
        return _map(lambda site: site.insert(site.axes, None), self._sites(model))

    def shardings(self, model: Decoder, mesh: Mesh) -> Params:
        """Where each factor lives on the mesh: divided as its kernel is, whole along the rank."""
        return tree_shardings(self.logical_axes(model), self.shapes(model), mesh)

    def _sites(self, model: Decoder) -> Params:
        """The linear layers that the targets name, in a tree like the parameters'."""
        sites = _linear_layers(model)
        for pattern in self.targets:
            if not any(fits(pattern, site.name) for site in sites):
                names = [site.name for site in sites]
                known = [*names, *(name.rpartition(".")[2] for name in names)]
                raise ConfigError(
                    f"lora.targets: '{pattern}' is no linear layer of this model, which has "
                    f"{', '.join(names)}.{suggest(pattern, known)}"
                )
        tree: Params = {}
        for site in sites:
            if any(fits(pattern, site.name) for pattern in self.targets):
                put(tree, site.name.split("."), site)
        return tree


def scaled(adapters: Params, lora: Lora) -> Params:
    """The adapters as the model takes them, alpha / rank multiplied into b.

    model.apply({"params": params, "lora": scaled(adapters, lora)}, tokens)

    Raises:
      ConfigError: the adapters are of another rank.

    Example:
      >>> pair = {"a": jnp.ones((1, 2, 4)), "b": jnp.ones((1, 4, 3))}
      >>> scaled({"up_proj": pair}, Lora(rank=4, alpha=8.0))["up_proj"]["b"].max().item()
      2.0

    """

    def scale(pair: dict[str, Array]) -> dict[str, Array]:
        rank = pair["a"].shape[-1]
        if rank != lora.rank:
            raise ConfigError(f"lora.rank is {lora.rank}, but the adapters are of rank {rank}.")
        made = {"a": pair["a"], "b": pair["b"] * lora.scale}
        if lora.dropout > 0:
            made["rate"] = jnp.full(pair["a"].shape[0], lora.dropout)
        return made

    return jax.tree.map(scale, adapters, is_leaf=_is_pair)


def lora_apply_fn(model: Decoder, lora: Lora) -> Callable[..., ModelOutput]:
    """The adapted model as a pure function `(adapters, batch, params, key=None) -> ModelOutput`.

    The frozen weights are an argument: closed over, they would become constants of the compiled
    program. Differentiated for the adapters alone it computes no gradient of a weight. The model
    without adapters is `models.apply_fn(model)(params, batch)`. There is dropout where a random key
    is given.
    """

    def apply(
        adapters: Params, batch: Batch, params: Params, key: Array | None = None
    ) -> ModelOutput:
        variables = {"params": params, "lora": scaled(adapters, lora)}
        rngs = None if key is None else {"lora": key}
        text = batch.tokens, batch.segments, batch.positions
        output = model.apply(variables, *text, unseen=batch.unseen, rngs=rngs)
        assert isinstance(output, ModelOutput)
        return output

    return apply


def merge_lora(params: Params, adapters: Params, lora: Lora) -> Params:
    """Parameters that do alone what they did together with the adapters.

    W + (alpha / rank) a b, computed in float32 and rounded to the type of W once.

    Args:
      params: the base; it stays as it is, and what is not adapted is shared with it.
      adapters: its adapters.
      lora: what they were made with.

    Returns:
      The parameters, each kernel sharded as before.

    Raises:
      ConfigError: the adapters are of another rank, or of another model.

    Example:
      >>> pair = {"a": jnp.ones((1, 2, 4)), "b": jnp.ones((1, 4, 3))}
      >>> params = {"up_proj": {"kernel": jnp.ones((1, 2, 3))}}
      >>> merged = merge_lora(params, {"up_proj": pair}, Lora(rank=4, alpha=8.0))
      >>> merged["up_proj"]["kernel"].tolist()
      [[[9.0, 9.0, 9.0], [9.0, 9.0, 9.0]]]

    """
    leaves = jax.tree_util.tree_leaves_with_path(scaled(adapters, lora), is_leaf=_is_pair)
    pairs = {(*path, jax.tree_util.DictKey("kernel")): pair for path, pair in leaves}

    def add(path: Any, leaf: Any) -> Any:
        pair = pairs.pop(path, None)
        if pair is None:
            return leaf
        if leaf.shape != (*pair["a"].shape[:-1], *pair["b"].shape[2:]):
            raise ConfigError(
                f"{_name(path)} has shape {list(leaf.shape)}: the adapters, of shapes "
                f"{list(pair['a'].shape)} and {list(pair['b'].shape)}, are of another model."
            )
        where = getattr(leaf, "sharding", None)
        return jax.jit(_sum, out_shardings=where)(leaf, pair["a"], pair["b"])

    merged = jax.tree_util.tree_map_with_path(add, params)
    if pairs:
        raise ConfigError(f"the parameters have no {_name(next(iter(pairs)))}: it is adapted.")
    return merged


class _Site(NamedTuple):
    """A linear layer of the model, all layers of that name together."""

    number: int
    name: str
    """Such as "layers.attn.q_proj"."""
    shape: tuple[int, ...]
    """Of its kernel: [layers, *inputs, *outputs]."""
    axes: tuple[str, ...]
    """Logical names of the kernel's axes."""

    def insert(self, entries: tuple[Any, ...], rank: Any) -> dict[str, tuple[Any, ...]]:
        """The entries (sizes or names) of the kernel's axes, made into those of its factors."""
        outputs = 1 + input_axes(self.axes)
        return {
            "a": (*entries[:outputs], rank),
            "b": (entries[0], rank, *entries[outputs:]),
        }


def _linear_layers(model: Decoder) -> list[_Site]:
    leaves = jax.tree_util.tree_leaves_with_path({"layers": param_shapes(model)["layers"]})
    axes = jax.tree.leaves(
        {"layers": logical_axes(model)["layers"]}, is_leaf=lambda node: isinstance(node, tuple)
    )
    paths = [[key.key for key in path] for path, _ in leaves]
    return [
        _Site(number, ".".join(path[:-1]), leaf.shape, names)
        for number, (path, (_, leaf), names) in enumerate(zip(paths, leaves, axes, strict=True))
        if path[-1] == "kernel"
    ]


def _map(make: Callable[[_Site], dict[str, Any]], sites: Params) -> Params:
    return jax.tree.map(make, sites, is_leaf=lambda node: isinstance(node, _Site))


def _is_pair(node: Any) -> bool:
    return isinstance(node, dict) and node.keys() >= {"a", "b"}


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(key.key for key in path)


def _sum(kernel: Array, a: Array, b: Array) -> Array:
    """Every layer's kernel + a b; on a TPU only the highest precision multiplies float32 whole."""
    product = jax.lax.dot_general(
        a.astype(jnp.float32),
        b.astype(jnp.float32),
        (((a.ndim - 1,), (1,)), ((0,), (0,))),
        precision=jax.lax.Precision.HIGHEST,
    )
    return (kernel.astype(jnp.float32) + product).astype(kernel.dtype)
