# SPDX-License-Identifier: Apache-2.0
"""Weights in bfloat16: updates rounded up or down at random, so that small ones are not lost."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_LARGEST = np.uint32(0x7F7F)  # the upper half of the largest finite bfloat16


def stochastic_round(x: Float[Array, "*S"], key: Array, dtype: Any) -> Float[Array, "*S"]:
    """Rounds float32 to one of its two neighbours, the nearer the likelier: E[result] = x.

    P(upper neighbour) = (x - lower) / (upper - lower)

    Args:
      x: float32 values.
      key: random key; the same key gives the same result on every mesh.
      dtype: bfloat16, or float32, which changes nothing.

    Returns:
      Values of that dtype. Those that it holds stay, infinities and NaN too; a finite value beyond
      the largest becomes the largest.

    Raises:
      ValueError: another dtype.

    Example:
      >>> x = jnp.full(1000, 1 + 2**-9)  # a quarter of the way from 1 to the next bfloat16
      >>> y = stochastic_round(x, jax.random.key(0), jnp.bfloat16)
      >>> sorted({float(v) for v in y}), bool(0.2 < jnp.mean(y > 1) < 0.3)
      ([1.0, 1.0078125], True)

    Reference: arXiv:2010.06192 (training in bfloat16 alone).
    """
    if x.dtype != jnp.float32 or jnp.dtype(dtype) not in (jnp.float32, jnp.bfloat16):
        raise ValueError(f"float32 is rounded to bfloat16 or float32, not {x.dtype} to {dtype}.")
    if jnp.dtype(dtype) == jnp.float32:
        return x
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    # bfloat16 is the upper half of float32: a carry out of the lower half is a step outwards.
    size = ((bits & np.uint32(0x7FFFFFFF)) + noise) >> np.uint32(16)
    sign = (bits >> np.uint32(16)) & np.uint32(0x8000)
    half = (sign | jnp.minimum(size, _LARGEST)).astype(jnp.uint16)
    rounded = jax.lax.bitcast_convert_type(half, jnp.bfloat16)
    return jnp.where(jnp.isfinite(x), rounded, x.astype(jnp.bfloat16))


def widen(tree: Any) -> Any:
    """Bfloat16 leaves as float32, for optimizers: their moments would stand still in bfloat16."""
    return jax.tree.map(lambda x: x.astype(jnp.float32) if _is_narrow(x) else x, tree)


def add_updates(params: Any, updates: Any, key: Array) -> Any:
    """The sums in the types of the params, where these are bfloat16 rounded stochastically.

    Args:
      params: the weights.
      updates: the same tree in float32.
      key: random key, another one for every update.

    """
    leaves, form = jax.tree.flatten(params)

    def add(number: int, weight: Array, update: Array) -> Array:
        if not _is_narrow(weight):
            return jnp.asarray(weight + update).astype(jnp.asarray(weight).dtype)
        total = weight.astype(jnp.float32) + update
        return stochastic_round(total, jax.random.fold_in(key, number), jnp.bfloat16)

    changes = jax.tree.leaves(updates)
    numbers = range(len(leaves))
    return form.unflatten([add(*each) for each in zip(numbers, leaves, changes, strict=True)])


def below_ulp(params: Any, updates: Any) -> Float[Array, ""] | None:
    """Share of the moved bfloat16 weights whose step is below half their rounding unit.

    Rounded to the nearest, such a step would change nothing. None where no weight is bfloat16.

    Example:
      >>> w = {"kernel": jnp.ones(4, jnp.bfloat16)}
      >>> round(float(below_ulp(w, {"kernel": jnp.array([0.0, 1e-4, 1e-3, 0.1])})), 3)
      0.667

    """
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(updates), strict=True)
    counts = [_count_small(w, u) for w, u in pairs if _is_narrow(w)]
    if not counts:
        return None
    small, moved = (sum(column) for column in zip(*counts, strict=True))
    return small / jnp.maximum(moved, 1.0)


def _count_small(weight: Array, update: Array) -> tuple[Array, Array]:
    size = jax.lax.bitcast_convert_type(weight.astype(jnp.float32), jnp.uint32)
    power = jax.lax.bitcast_convert_type(size & np.uint32(0x7F800000), jnp.float32)
    moved = update != 0
    # A bfloat16 has 7 digits behind the first one.
    small = moved & (jnp.abs(update) < power * 2.0**-8)
    return _count(small), _count(moved)


def _count(on: Array) -> Float[Array, ""]:
    """Whole numbers first: their sum is the same on any mesh. One stack may have 2^32 entries."""
    rest = tuple(range(1, on.ndim))
    return jnp.sum(jnp.sum(on, axis=rest, dtype=jnp.uint32).astype(jnp.float32))


def _is_narrow(x: Any) -> bool:
    return getattr(x, "dtype", None) == jnp.bfloat16
