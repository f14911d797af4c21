# SPDX-License-Identifier: Apache-2.0
"""How one family's Hugging Face tensors correspond to the decoder's parameters."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from unilogit_jax.models.build import param_shapes
from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.models.decoder import Decoder

Index = tuple[slice, ...]


@dataclass(frozen=True, kw_only=True)
class Fused:
    """A module whose tensor holds several of ours, one after the other along the outputs."""

    name: str
    """Hugging Face name of the module."""
    order: tuple[str, ...]
    """Our modules in it, such as ("q_proj", "k_proj", "v_proj")."""
    interleaved: bool = False
    """The order is repeated within each head, as in GPT-NeoX."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """What is particular to one `model_type`: its config.json and the names of its tensors."""

    read_config: Callable[[Mapping[str, Any]], DecoderConfig]
    """From the parsed config.json."""
    names: Mapping[str, str | Fused]
    """Our module, such as "layers.attn.q_proj" -> its module; "{layer}" stands for the number."""
    write_config: Callable[[DecoderConfig], dict[str, Any]] | None = None
    """The keys of a config.json, for models that were made here and not read from one."""
    inputs_first: bool = False
    """Linear layers are stored as [in, out]."""
    aliases: tuple[tuple[tuple[str, str], ...], ...] = ()
    """Other sets of beginnings that files use: pairs of the one in `names` and the file's."""
    ignored: tuple[str, ...] = ()
    """Endings of tensor names that old files carry and that hold no weights."""
    foreign: tuple[str, ...] = ()
    """Beginnings of tensor names that belong to other parts of a model, images say."""


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One parameter and the tensor, or the tensors of all layers, that it is stored in."""

    path: tuple[str, ...]
    """Keys into the nested parameter dict."""
    name: str
    """Hugging Face name; "{layer}" in it means one tensor per layer, stacked on our side."""
    shape: tuple[int, ...]
    """Our shape, of one layer."""
    inputs: int = 0
    """How many leading axes of our shape a linear layer sums over."""
    first_row: int = 0
    """Where our outputs begin in the stored tensor."""
    stride: int | None = None
    """Stored rows from one head to the next; None: ours follow one another."""
    stored_rows: int
    """Outputs of the stored tensor, ours and others."""
    inputs_first: bool = False
    """Stored as [in, out]."""

    @property
    def stacked(self) -> bool:
        """Whether our array holds all layers."""
        return "{layer}" in self.name

    @property
    def hf_shape(self) -> tuple[int, ...]:
        """Shape of the stored tensor."""
        if not self.inputs:
            return self.shape if self._is_table else (self.stored_rows,)
        pair = self.stored_rows, math.prod(self.shape[: self.inputs])
        return pair[::-1] if self.inputs_first else pair

    def names(self, layers: int) -> list[str]:
        """The names of its tensors, in layer order."""
        return [self.name.format(layer=i) for i in range(layers)] if self.stacked else [self.name]

    def read(self, stored: Any, index: Index | None = None) -> np.ndarray:
        """Our array of one stored tensor, or a part of it; reads no more than that part.

        Args:
          stored: an array, or anything that gives arrays when it is sliced.
          index: a slice of every axis of our shape; the last axis of heads must be whole.

        """
        index = tuple(slice(0, n) for n in self.shape) if index is None else index
        bounds = [part.indices(n)[:2] for part, n in zip(index, self.shape, strict=True)]
        shape = tuple(stop - start for start, stop in bounds)
        if self._is_table:
            return stored[tuple(slice(*pair) for pair in bounds)]
        runs = self._rows(bounds[self.inputs :])
        if not self.inputs:
            return np.concatenate([stored[a:b] for a, b in runs]).reshape(shape)
        columns = slice(*self._columns(bounds[: self.inputs]))
        if self.inputs_first:
            parts = np.concatenate([stored[columns, a:b] for a, b in runs], axis=1)
        else:
            parts = np.concatenate([stored[a:b, columns] for a, b in runs]).T
        return parts.reshape(shape)

    def write(self, array: np.ndarray, stored: np.ndarray) -> None:
        """Puts one layer of our array where it belongs in a stored tensor."""
        if self._is_table:
            stored[...] = array
            return
        rows = array.reshape(math.prod(self.shape[: self.inputs]), -1)
        place = 0
        for start, stop in self._rows([(0, n) for n in self.shape[self.inputs :]]):
            part = rows[:, place : place + stop - start]
            place += stop - start
            if not self.inputs:
                stored[start:stop] = part[0]
            elif self.inputs_first:
                stored[:, start:stop] = part
            else:
                stored[start:stop] = part.T

    @property
    def _is_table(self) -> bool:
        """Rows of vocabulary or positions, stored as they are."""
        return not self.inputs and self.path[-1] == "kernel"

    def _rows(self, bounds: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Stored rows of a block of our outputs, as runs of neighbours."""
        (start, stop), rest = bounds[0], math.prod(self.shape[self.inputs + 1 :])
        if self.stride is None:
            return [(self.first_row + start * rest, self.first_row + stop * rest)]
        begins = [self.first_row + head * self.stride for head in range(start, stop)]
        return [(begin, begin + rest) for begin in begins]

    def _columns(self, bounds: list[tuple[int, int]]) -> tuple[int, int]:
        rest = math.prod(self.shape[1 : self.inputs])
        return bounds[0][0] * rest, bounds[0][1] * rest


def weight_table(config: DecoderConfig, family: Family) -> list[Weight]:
    """Every parameter of a decoder with the tensor that it is stored in.

    Args:
      config: the decoder.
      family: whose names are used.

    """
    leaves = jax.tree_util.tree_leaves_with_path(param_shapes(Decoder(config)))
    shapes = {tuple(key.key for key in path): leaf.shape for path, leaf in leaves}
    return [_weight(path, shapes, family) for path in shapes]


def _weight(
    path: tuple[str, ...], shapes: Mapping[tuple[str, ...], tuple[int, ...]], family: Family
) -> Weight:
    *modules, leaf = path
    entry = family.names[".".join(modules)]
    stacked = path[0] == "layers"
    shape = shapes[path][stacked:]
    inputs = 0 if not (stacked and leaf == "kernel") else 2 if modules[-1] == "o_proj" else 1
    name, order, interleaved = entry, (modules[-1],), False
    if isinstance(entry, Fused):
        name, order, interleaved = entry.name, entry.order, entry.interleaved
    paths = {module: (*modules[:-1], module, leaf) for module in order}
    rows = {module: math.prod(shapes[p][stacked + inputs :]) for module, p in paths.items()}
    place = order.index(modules[-1])
    if interleaved:
        first_row, stride = place * shape[-1], len(order) * shape[-1]
    else:
        first_row, stride = sum(rows[module] for module in order[:place]), None
    return Weight(
        path=path,
        name=f"{name}.{'bias' if leaf == 'bias' else 'weight'}",
        shape=shape,
        inputs=inputs,
        first_row=first_row,
        stride=stride,
        stored_rows=sum(rows.values()),
        inputs_first=family.inputs_first,
    )
