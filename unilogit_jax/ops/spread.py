# SPDX-License-Identifier: Apache-2.0
"""How a head and its tokens lie on a mesh, and the few collectives that their parts exchange."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array

from unilogit_jax.ops.sweeps import Grads


@dataclass(frozen=True, kw_only=True)
class HeadSharding:
    """Mesh axes of tokens, vocabulary and width; hashable, hence static in jit.

    Example:
      >>> mesh = jax.make_mesh((1,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))
      >>> tuple(HeadSharding(mesh=mesh, embed="fsdp").kernel_spec(transposed=False))
      (None, 'fsdp')

    """

    mesh: Mesh
    rows: tuple[str, ...] = ()
    """Axes that the first axis of the hidden states is divided over."""
    vocab: str | None = None
    """Axis that the vocabulary is divided over."""
    embed: str | None = None
    """Axis that the kernel's width is divided over; the hidden states' width is whole."""

    def kernel_spec(self, *, transposed: bool) -> PartitionSpec:
        """Where the kernel's axes lie."""
        spec = (self.vocab, self.embed)
        return PartitionSpec(*(spec[::-1] if transposed else spec))

    @property
    def token_spec(self) -> PartitionSpec:
        """Where arrays lie whose first axis is that of the rows."""
        return PartitionSpec(self.rows or None)


def whole_width(kernel: Array, how: HeadSharding | None, *, transposed: bool, dtype: Any) -> Array:
    """The kernel with all of its width, gathered once, in the dtype that it is used in."""
    if how is None or how.embed is None:
        return kernel
    # Cast first: half the bytes travel where the computation is in bfloat16.
    axis = 0 if transposed else 1
    return jax.lax.all_gather(kernel.astype(dtype), how.embed, axis=axis, tiled=True)


def first_column(kernel: Array, how: HeadSharding | None, *, transposed: bool) -> Any:
    """Vocabulary index of this device's first column."""
    if how is None or how.vocab is None:
        return jnp.int32(0)
    return jax.lax.axis_index(how.vocab) * kernel.shape[1 if transposed else 0]


def combine(found: Any, merge: Callable[[Any, Any], Any], *, how: HeadSharding | None) -> Any:
    """What all devices that share the vocabulary found: one gather of a few numbers a token."""
    if how is None or how.vocab is None:
        return found
    gathered = jax.lax.all_gather(found, how.vocab)
    parts = [jax.tree.map(lambda x, k=k: x[k], gathered) for k in range(how.mesh.shape[how.vocab])]
    return reduce(merge, parts)


def sum_rows(x: Array, how: HeadSharding | None) -> Array:
    """A sum over the tokens of all devices."""
    return x if how is None else _sum(x, how, how.rows)


def combine_grads(grads: Grads, how: HeadSharding | None, *, transposed: bool) -> Grads:
    """Every device's part of the gradients over all tokens and all columns."""
    if how is None:
        return grads
    hidden, kernel, bias = grads
    if hidden is not None and how.vocab is not None:
        hidden = _sum(hidden, how, (how.vocab,))
    if kernel is not None:
        kernel = _own_width(kernel, how, axis=0 if transposed else 1)
        kernel = _sum(kernel, how, tuple(axis for axis in how.rows if axis != how.embed))
    if bias is not None:
        bias = sum_rows(bias, how)
    return Grads(hidden, kernel, bias)


def _sum(x: Array, how: HeadSharding, axes: tuple[str, ...]) -> Array:
    # An axis of size 1 has nothing to add, but would cost a pass over the array.
    axes = tuple(axis for axis in axes if how.mesh.shape[axis] > 1)
    return jax.lax.psum(x, axes) if axes else x


def _own_width(kernel: Array, how: HeadSharding, *, axis: int) -> Array:
    if how.embed is None:
        return kernel
    if how.embed in how.rows:
        return jax.lax.psum_scatter(kernel, how.embed, scatter_dimension=axis, tiled=True)
    size = kernel.shape[axis] // how.mesh.shape[how.embed]
    start = jax.lax.axis_index(how.embed) * size
    return jax.lax.dynamic_slice_in_dim(kernel, start, size, axis=axis)
