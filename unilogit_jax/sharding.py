# SPDX-License-Identifier: Apache-2.0
"""The device mesh, and the one table from logical axes of arrays to axes of the mesh."""

import math
from typing import Any

import jax
import numpy as np
from jax.experimental.mesh_utils import create_device_mesh
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from unilogit_jax.errors import ConfigError
from unilogit_jax.ops import HeadSharding
from unilogit_jax.types import Batch, Head

AXES = ("data", "fsdp", "tensor")
"""Axes of every mesh; sizes may be 1."""

RULES: dict[str, tuple[str, ...]] = {
    "batch": ("data", "fsdp"),
    "embed": ("fsdp",),
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "mlp": ("tensor",),
    "vocab": ("tensor",),
    "layers": (),
    "head_dim": (),
    "positions": (),
    "norm": (),
}
"""Logical axis -> mesh axes. An axis that does not divide a dimension is dropped there."""


def make_mesh(*, data: int = 1, fsdp: int = -1, tensor: int = 1, devices: Any = None) -> Mesh:
    """A mesh with the axes data, fsdp, tensor; at most one size may be -1, "all that remain".

    On TPUs, neighbours on an axis are neighbours on the board as far as its wiring allows.

    Example:
      >>> dict(make_mesh(fsdp=1, devices=jax.devices()[:1]).shape)
      {'data': 1, 'fsdp': 1, 'tensor': 1}

    Raises:
      ConfigError: the sizes do not multiply to the number of devices, or one is none.

    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = [data, fsdp, tensor]
    wrong = [f"{axis} {n}" for axis, n in zip(AXES, sizes, strict=True) if n < 1 and n != -1]
    if wrong:
        raise ConfigError(f"mesh: {wrong[0]} is no size of an axis: give 1 or more, or -1.")
    if sizes.count(-1) > 1:
        raise ConfigError("mesh: only one of data, fsdp, tensor may be -1.")
    if -1 in sizes:
        known = math.prod(s for s in sizes if s != -1)
        sizes[sizes.index(-1)] = max(1, len(devices) // known)
    if math.prod(sizes) != len(devices):
        shape = " x ".join(f"{axis} {size}" for axis, size in zip(AXES, sizes, strict=True))
        raise ConfigError(
            f"mesh: {shape} needs {math.prod(sizes)} devices, there are {len(devices)}. "
            "Set one of mesh.data, mesh.fsdp, mesh.tensor to -1 to take what is there."
        )
    grid = _by_wiring(sizes, devices)
    kinds = (jax.sharding.AxisType.Auto,) * len(AXES)
    return Mesh(grid, AXES, axis_types=kinds)


def _by_wiring(sizes: list[int], devices: list[Any]) -> np.ndarray:
    """The devices in an order in which those that exchange most lie beside each other."""
    plain = np.asarray(devices).reshape(sizes)
    if devices[0].platform != "tpu":
        return plain
    try:
        return create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    except AssertionError:  # v4, where each core of a chip is a device
        return plain


def partition_spec(
    axes: tuple[str | None, ...], shape: tuple[int, ...], mesh: Mesh
) -> PartitionSpec:
    """The PartitionSpec of an array from the logical names of its axes.

    Example:
      >>> mesh = make_mesh(fsdp=1, devices=jax.devices()[:1])
      >>> tuple(partition_spec(("embed", "mlp"), (8, 6), mesh))
      ('fsdp', 'tensor')

    """
    entries: list[Any] = []
    for name, size in zip(axes, shape, strict=True):
        wanted = RULES[name] if name is not None else ()
        parts = math.prod(mesh.shape[axis] for axis in wanted)
        entries.append(
            None if not wanted or size % parts else wanted[0] if len(wanted) == 1 else wanted
        )
    return PartitionSpec(*entries)


def tree_shardings(axes: Any, shapes: Any, mesh: Mesh) -> Any:
    """NamedShardings for a tree of arrays (or shapes), given the same tree of axis-name tuples.

    Example:
      >>> mesh = make_mesh(fsdp=1, devices=jax.devices()[:1])
      >>> found = tree_shardings({"w": ("embed", "mlp")}, {"w": np.zeros((8, 6))}, mesh)
      >>> tuple(found["w"].spec)
      ('fsdp', 'tensor')

    """
    return jax.tree.map(
        lambda leaf, names: NamedSharding(mesh, partition_spec(names, leaf.shape, mesh)),
        shapes,
        axes,
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of a value that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def shard_head(head: Head, mesh: Mesh) -> Head:
    """A tree of NamedShardings for a head by itself, which lies as that of a model does.

    Example:
      >>> mesh = make_mesh(fsdp=1, devices=jax.devices()[:1])
      >>> tuple(shard_head(Head(kernel=np.zeros((64, 8))), mesh).kernel.spec)
      ('tensor', 'fsdp')

    """
    names = ("vocab", "embed") if head.layout == "vd" else ("embed", "vocab")
    axes = jax.tree.map(lambda x: names if x.ndim == 2 else ("vocab",), head)
    return tree_shardings(axes, head, mesh)


def head_sharding(head: Head, hidden_shape: tuple[int, ...], mesh: Mesh) -> HeadSharding | None:
    """How a head and hidden states [B, L, D] lie on the mesh; None on a single device.

    Example:
      >>> head = Head(kernel=np.zeros((64, 8)))
      >>> head_sharding(head, (4, 6, 8), make_mesh(fsdp=1, devices=jax.devices()[:1])) is None
      True

    """
    if mesh.size == 1:
        return None
    shape = head.kernel.shape if head.layout == "vd" else head.kernel.shape[::-1]
    vocab, embed = partition_spec(("vocab", "embed"), shape, mesh)
    (rows,) = partition_spec(("batch",), hidden_shape[:1], mesh)
    return HeadSharding(mesh=mesh, rows=rows or (), vocab=vocab, embed=embed)


def batch_shardings(batch: Batch, mesh: Mesh) -> Batch:
    """The tree of NamedShardings of a batch: rows divided over data and fsdp."""

    def place(x: Any) -> NamedSharding:
        axes = ("batch", *([None] * (x.ndim - 1)))
        return NamedSharding(mesh, partition_spec(axes, x.shape, mesh))

    return jax.tree.map(place, batch)


def put_batch(batch: Batch, mesh: Mesh) -> Batch:
    """Places a host batch on the mesh, its rows divided over data and fsdp.

    Every process has the whole batch, which is a function of (seed, i), and hands its own devices
    their rows.
    """

    def put(x: Any, where: NamedSharding) -> jax.Array:
        return jax.make_array_from_callback(x.shape, where, lambda index: x[index])

    return jax.tree.map(put, batch, batch_shardings(batch, mesh))


def fetch(x: jax.Array) -> np.ndarray:
    """A whole array on the host; every process has to ask for those that lie on several.

    Example:
      >>> fetch(jax.numpy.arange(3)).tolist()
      [0, 1, 2]

    """
    if x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    from jax.experimental.multihost_utils import process_allgather

    return np.asarray(process_allgather(x, tiled=True))
