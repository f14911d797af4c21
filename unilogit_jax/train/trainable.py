# SPDX-License-Identifier: Apache-2.0
"""Which weights an update moves, and how fast: patterns over the names of a tree's leaves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from unilogit_jax.errors import ConfigError, suggest
from unilogit_jax.models.patterns import Pattern, fits, parse_pattern


class Part(NamedTuple):
    """What is trained of one leaf."""

    layers: tuple[int, ...] | None = None
    """Entries of its first axis; None: all of it."""
    factors: tuple[float, ...] = (1.0,)
    """Of the learning rate: one for each of these entries, or one for all."""

    def cut(self, leaf: Array) -> Array:
        """The trained entries."""
        if self.layers is None:
            return leaf
        start, stop = self.layers[0], self.layers[-1] + 1
        run = stop - start == len(self.layers)
        return leaf[start:stop] if run else leaf[np.asarray(self.layers)]

    def paste(self, leaf: Array, part: Array) -> Array:
        """The leaf with other trained entries."""
        return part if self.layers is None else leaf.at[np.asarray(self.layers)].set(part)

    def scale(self, update: Array) -> Array:
        """The update times the factors."""
        if set(self.factors) == {1.0}:
            return update
        shape = len(self.factors), *(1,) * (update.ndim - 1)
        return update * np.asarray(self.factors, np.float32).reshape(shape[: update.ndim])


@dataclass(frozen=True, kw_only=True)
class Trainable:
    """The trained weights of a tree; all of them by default.

    What is not trained has no gradient and no optimizer state, and stays as it is, bit for bit.
    """

    parts: tuple[Part | None, ...] | None = None
    """For every leaf what is trained of it, None for nothing; None: all leaves are."""
    span: tuple[int, int] | None = None
    """The layers begin..end-1 outside of which none is trained; None: that is no help."""

    def pick(self, tree: Any, *, whole: bool = False) -> Any:
        """The trained entries of a tree of arrays, with None where nothing is trained.

        Args:
          tree: a tree like the weights.
          whole: leaves are taken whole; for trees of other things than arrays.

        """
        if self.parts is None:
            return tree
        leaves, form = jax.tree.flatten(tree)
        pairs = zip(leaves, self.parts, strict=True)
        return form.unflatten(
            [None if p is None else leaf if whole else p.cut(leaf) for leaf, p in pairs]
        )

    def put(self, tree: Any, trained: Any) -> Any:
        """A tree of arrays with other trained entries, as `pick` gives them."""
        if self.parts is None:
            return trained
        leaves, form = jax.tree.flatten(tree)
        triples = zip(leaves, self.parts, form.flatten_up_to(trained), strict=True)
        return form.unflatten(
            [leaf if p is None else p.paste(leaf, part) for leaf, p, part in triples]
        )

    def scale(self, updates: Any) -> Any:
        """The updates of the trained entries times the factors of their learning rates."""
        if self.parts is None:
            return updates
        leaves, form = jax.tree.flatten(updates)
        parts = [part for part in self.parts if part is not None]
        return form.unflatten([p.scale(x) for p, x in zip(parts, leaves, strict=True)])


def choose_trainable(
    shapes: Any,
    trainable: Iterable[str] = ("*",),
    learning_rates: Mapping[str, float] | None = None,
    *,
    where: str = "",
) -> Trainable:
    """The weights that patterns name.

    A pattern names a weight or a part of the tree with all that is in it, by its dotted path or the
    end of it: "embed", "q_proj", "layers.mlp.*", "norm.scale". With numbers of layers,
    "layers.5-7.mlp.down_proj", it means these layers, counted from 0, and both ends belong to them.

    Args:
      shapes: the tree of weights, or of their shapes; entries of the first axis below "layers" are
        layers.
      trainable: patterns; a weight is trained if one of them names it.
      learning_rates: pattern -> factor of the learning rate; the last one that names a weight
        counts.
      where: what the keys are called in error messages begins so, "unlearn." say.

    Raises:
      ConfigError: a pattern that names no weight.

    Example:
      >>> shapes = {"embed": np.zeros((9, 4)), "layers": {"up": np.zeros((3, 4))}}
      >>> choose_trainable(shapes, ["layers.1-2"], {"layers.2": 0.5})
      Trainable(parts=(None, Part(layers=(1, 2), factors=(1.0, 0.5))), span=(1, 3))

    """
    rates = dict(learning_rates or {})
    patterns = tuple(trainable)
    if patterns == ("*",) and not rates:
        return EVERYTHING
    leaves = [_Leaf.of(*pair) for pair in jax.tree_util.tree_leaves_with_path(shapes)]
    for key, names in (("trainable", patterns), ("learning_rates", rates)):
        for pattern in names:
            _check(pattern, leaves, f"{where}{key}")
    parsed = [parse_pattern(pattern) for pattern in patterns]
    factors = [(parse_pattern(pattern), factor) for pattern, factor in rates.items()]
    parts = tuple(leaf.part(parsed, factors) for leaf in leaves)
    return Trainable(parts=parts, span=_span(leaves, parts))


EVERYTHING = Trainable()
"""All weights are trained."""


class _Leaf(NamedTuple):
    """A leaf of the tree of weights."""

    path: tuple[str, ...]
    layers: int | None
    """Entries of its first axis, where these are layers."""

    @classmethod
    def of(cls, path: tuple[Any, ...], leaf: Any) -> "_Leaf":
        names = tuple(jax.tree_util.keystr((key,), simple=True) for key in path)
        return cls(names, leaf.shape[0] if names[0] == "layers" else None)

    def names(self, inner: bool) -> list[str]:
        """Its name and those of all that it is in; `inner`: as they are called within a layer."""
        return list(accumulate(self.path[inner:], "{}.{}".format))

    def matched(self, pattern: Pattern) -> range:
        """The layers (or the single entry of what has none) that a pattern names."""
        numbered, count = pattern.layers is not None, self.layers or 1
        if numbered and self.layers is None:
            return range(0)
        if not any(fits(pattern.text, name) for name in self.names(numbered)):
            return range(0)
        return range(count) if pattern.layers is None else pattern.layers[: _below(pattern, count)]

    def part(self, trainable: list[Pattern], rates: list[tuple[Pattern, float]]) -> Part | None:
        count = self.layers or 1
        on = sorted({i for pattern in trainable for i in self.matched(pattern)})
        factors = [1.0] * count
        for pattern, factor in rates:
            for i in self.matched(pattern):
                factors[i] = factor
        if not on:
            return None
        own = tuple(factors[i] for i in on)
        own = own if len(set(own)) > 1 else own[:1]
        return Part(None if len(on) == count else tuple(on), own)


def _below(pattern: Pattern, count: int) -> int:
    """How many of a pattern's layers a model of so many has."""
    assert pattern.layers is not None
    return max(0, min(pattern.layers.stop, count) - pattern.layers.start)


def _check(pattern: str, leaves: list[_Leaf], key: str) -> None:
    parsed = parse_pattern(pattern)
    count = max((leaf.layers or 0 for leaf in leaves), default=0)
    wanted = parsed.layers
    if wanted is not None and (not wanted or _below(parsed, count) < len(wanted)):
        why = (
            f"those of this model are 0 to {count - 1}"
            if wanted
            else "the lower number comes first"
        )
        raise ConfigError(f"{key}: '{pattern}' names no such layers: {why}.")
    if any(leaf.matched(parsed) for leaf in leaves):
        return
    numbered = wanted is not None
    inside = [leaf for leaf in leaves if leaf.layers is not None or not numbered]
    known = sorted({".".join(leaf.path[numbered:-1] or leaf.path) for leaf in inside})
    words = {name for leaf in inside for name in (*leaf.path, *leaf.names(numbered))}
    place = "a layer of this model" if numbered else "this model"
    raise ConfigError(
        f"{key}: '{pattern}' names no weight of {place}, which has {', '.join(known)}."
        f"{suggest(parsed.text, sorted(words))}"
    )


def _span(leaves: list[_Leaf], parts: tuple[Part | None, ...]) -> tuple[int, int] | None:
    trained = [
        (leaf.layers, part.layers)
        for leaf, part in zip(leaves, parts, strict=True)
        if leaf.layers is not None and part is not None
    ]
    if not trained or any(some is None for _, some in trained):
        return None
    numbers = [i for _, some in trained for i in some or ()]
    span = min(numbers), max(numbers) + 1
    return None if span == (0, trained[0][0]) else span
