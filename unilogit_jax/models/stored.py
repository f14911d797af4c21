# SPDX-License-Identifier: Apache-2.0
"""The tensors that a model is stored in, one after the other, from parameters on any devices."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from unilogit_jax.models.blocks import CHUNK, HostArray, copy
from unilogit_jax.models.build import Params, at
from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.models.families import find_family
from unilogit_jax.models.weight_map import Weight, weight_table


class Slot(NamedTuple):
    """A stored tensor, and the parameters that share it."""

    name: str
    shape: tuple[int, ...]
    weights: list[Weight]
    range: tuple[int, int]
    """What it takes of the first axis of its parameters: one layer, or all of a table."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


Step = tuple[Slot, int, list[np.ndarray]]
"""A stored tensor, its first row in this step, the entries of its parameters for it."""


def slots_of(config: DecoderConfig) -> list[Slot]:
    """All stored tensors; those of one parameter stand together, so that it is gathered once."""
    shared: dict[str, list[Weight]] = {}
    for weight in weight_table(config, find_family(config.family)):
        shared.setdefault(weight.name, []).append(weight)
    return [
        Slot(name, w[0].hf_shape, w, (i, i + 1) if w[0].stacked else (0, w[0].shape[0]))
        for w in shared.values()
        for i, name in enumerate(w[0].names(config.layers))
    ]


def divide(slots: list[Slot], itemsize: int, file_bytes: int) -> list[list[Slot]]:
    """Tensors in files of about a given size."""
    files: list[list[Slot]] = [[]]
    size = 0
    for slot in slots:
        if files[-1] and size + slot.size * itemsize > file_bytes:
            files.append([])
            size = 0
        files[-1].append(slot)
        size += slot.size * itemsize
    return files


def steps_of(slots: list[Slot], params: Params) -> Iterator[Step]:
    """Pieces of all tensors, in the order in which every process gathers them."""
    gathered = Gathered(params)
    for slot in slots:
        first, last = slot.range
        rows = 1 if slot.weights[0].stacked else max(1, CHUNK // math.prod(slot.shape[1:]))
        for start in range(first, last, rows):
            yield slot, start - first, gathered.rows(slot, start, min(start + rows, last))


class Gathered:
    """The parameters on the host, those of one stored tensor at a time."""

    def __init__(self, params: Params):
        self._params = params
        self._weights: list[Weight] = []
        self._arrays: list[HostArray] = []

    def rows(self, slot: Slot, first: int, last: int) -> list[np.ndarray]:
        """Entries first..last of the first axis of a tensor's parameters."""
        if slot.weights is not self._weights:
            self._weights = slot.weights
            self._arrays = [HostArray(at(self._params, weight.path)) for weight in slot.weights]
        return [array.rows(first, last) for array in self._arrays]


def stored(slot: Slot, arrays: list[np.ndarray], dtype: np.dtype) -> np.ndarray:
    """A tensor, or some rows of a table, as it is stored."""
    stacked = slot.weights[0].stacked
    out = np.empty(slot.shape if stacked else (len(arrays[0]), *slot.shape[1:]), dtype)
    for weight, array in zip(slot.weights, arrays, strict=True):
        array = array[0] if stacked else array
        if weight.inputs and not weight.inputs_first:
            rows = array.reshape(math.prod(array.shape[: weight.inputs]), -1)
            turned = np.empty(rows.shape[::-1], dtype)
            copy(turned, rows.T)
            array = turned.T.reshape(array.shape)
        weight.write(array, out)
    return out
