# SPDX-License-Identifier: Apache-2.0
"""Blocks of parameters: from files to the parts that devices hold, and from those to the host."""

import math
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding

from unilogit_jax.models.hf_io import Tensor
from unilogit_jax.models.weight_map import Index, Weight

WORKERS = min(8, os.cpu_count() or 1)
"""Threads that read and write; each holds one layer's tensor."""

CHUNK = 16 * 1024**2
"""Elements of a table, such as the embedding, that are read or written at a time."""

PANEL = 16
"""Rows that are transposed at a time: 16 of them stay in the processor's cache."""

Bounds = tuple[tuple[int, int], ...]
"""Where a block of an array begins and ends on every axis."""


def read_parts(
    weight: Weight,
    tensors: list[Tensor],
    parts: dict[Bounds, np.ndarray],
    pool: ThreadPoolExecutor,
) -> Iterator[int]:
    """Fills blocks of one parameter from its files; every stored byte is read once for all.

    Args:
      weight: the parameter.
      tensors: where it is stored: one tensor, or one for each layer.
      parts: where a block lies in the parameter -> the array to fill.
      pool: threads that do it.

    Yields:
      Elements finished, of the smallest block that contains all parts.

    """
    box = around(parts)
    index = tuple(slice(*pair) for pair in box)
    elements = math.prod(stop - start for start, stop in box[1:])
    step = 1 if weight.stacked else max(1, CHUNK // elements)

    def fill(first: int) -> int:
        last = min(first + step, box[0][1])
        if weight.stacked:
            block = weight.read(tensors[first], index[1:])[None]
        else:
            block = weight.read(tensors[0], (slice(first, last), *index[1:]))
        for bounds, part in parts.items():
            start, stop = bounds[0]
            low, high = max(first, start), min(last, stop)
            if low < high:
                inner = [
                    slice(a - c, b - c) for (a, b), (c, _) in zip(bounds[1:], box[1:], strict=True)
                ]
                held = block[slice(low - first, high - first), *inner]
                flat = math.prod(held.shape[: 1 + weight.inputs]), -1
                copy(part[low - start : high - start].reshape(flat), held.reshape(flat))
        return (last - first) * elements

    return pool.map(fill, range(*box[0], step))


def copy(target: np.ndarray, source: np.ndarray) -> None:
    """target[...] = source for two matrices; quick also where one is stored the other way round.

    Example:
      >>> target = np.zeros((2, 3))
      >>> copy(target, np.arange(6).reshape(3, 2).T)
      >>> target.tolist()
      [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]

    """
    if source.strides[0] >= source.strides[1]:
        target[...] = source
        return
    for start in range(0, source.shape[1], PANEL):
        panel = source[:, start : start + PANEL].astype(target.dtype, order="K", copy=False)
        target[:, start : start + PANEL] = panel


def around(parts: Iterable[Bounds]) -> Bounds:
    """The smallest block that contains all of some blocks.

    Example:
      >>> around([((0, 2), (4, 6)), ((0, 2), (6, 8))])
      ((0, 2), (4, 8))

    """
    axes = zip(*parts, strict=True)
    return tuple((min(a for a, _ in axis), max(b for _, b in axis)) for axis in axes)


def bounds_of(index: Index | None, shape: tuple[int, ...]) -> Bounds:
    """Slices as pairs of numbers.

    Example:
      >>> bounds_of((slice(None), slice(2, 4)), (8, 8))
      ((0, 8), (2, 4))

    """
    return tuple(part.indices(n)[:2] for part, n in zip(index or (), shape, strict=True))


class HostArray:
    """The parts of an array on this host, each copied here once; rows of it on request."""

    def __init__(self, array: Any):
        self._array = array
        self._pieces: list[tuple[Bounds, np.ndarray]] = []
        here = isinstance(array, jax.Array) and array.is_fully_addressable
        for shard in array.addressable_shards if here else ():
            if shard.replica_id == 0:
                # An array keeps the copy that NumPy has seen of it; this second face is let go.
                where, data = SingleDeviceSharding(shard.device), shard.data
                face = jax.make_array_from_single_device_arrays(data.shape, where, [data])
                self._pieces.append((bounds_of(shard.index, array.shape), np.asarray(face)))

    def rows(self, first: int, last: int) -> np.ndarray:
        """Entries first..last of the first axis; every process has to ask for the same ones."""
        if not isinstance(self._array, jax.Array):
            return np.asarray(self._array[first:last])
        if not self._array.is_fully_addressable:
            from jax.experimental.multihost_utils import process_allgather

            # Gathered whole, a stacked parameter could be more than a device holds.
            part = jax.lax.dynamic_slice_in_dim(self._array, first, last - first)
            return np.asarray(process_allgather(part, tiled=True))
        if len(self._pieces) == 1:
            return self._pieces[0][1][first:last]
        out = np.empty((last - first, *self._array.shape[1:]), self._array.dtype)
        for ((start, stop), *others), piece in self._pieces:
            low, high = max(first, start), min(last, stop)
            if low < high:
                place = slice(low - first, high - first), *(slice(*pair) for pair in others)
                out[place] = piece[low - start : high - start]
        return out
