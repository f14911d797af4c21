# SPDX-License-Identifier: Apache-2.0
"""A number for each array of a tree that tells whether it is the same; made on the devices."""

import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_SPREAD = np.uint32(0x9E3779B1)  # Knuth's multiplier: 2^32 over the golden ratio, made prime


@jax.jit
def fingerprint(tree: Any) -> Any:
    """One uint32 per array: the sum of its bits, each times an odd number of its place, mod 2^32.

    Integer sums do not depend on their order, so the number is the same on any mesh. Odd factors
    are invertible: no change of a single element goes unseen.

    Example:
      >>> x = jnp.zeros(3)
      >>> int(fingerprint(x)) == int(fingerprint(x.at[2].set(1e-30)))
      False

    """

    def mark(x: jax.Array) -> jax.Array:
        if jnp.issubdtype(x.dtype, jnp.bool_):
            x = x.astype(jnp.uint8)
        unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint64}[x.dtype.itemsize]
        bits = jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)
        # The lower half of what once was bfloat16 is empty, and would be in the sum.
        bits ^= bits >> np.uint32(16)
        # The factors follow no pattern, so that layers or rows that change places are seen too.
        place = jax.lax.iota(jnp.uint32, bits.size).reshape(bits.shape) * _SPREAD
        place ^= place >> np.uint32(15)
        return jnp.sum(bits * (place | np.uint32(1)), dtype=jnp.uint32)

    return jax.tree.map(mark, tree)


def marks_of(tree: Any) -> list[int]:
    """The fingerprints of a tree's arrays, on the host."""
    return [int(x) for x in jax.tree.leaves(fingerprint(tree))]


def weights_digest(params: Any) -> str:
    """A digest that tells whether two models have the same weights, whatever their mesh.

    Of the name, shape and type of every array and its fingerprint: made to notice changes, not to
    withstand somebody who wants them unnoticed.

    Example:
      >>> weights_digest({"a": jnp.zeros(2)}) == weights_digest({"a": jnp.ones(2)})
      False

    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    shapes = [[jax.tree_util.keystr(at), list(x.shape), x.dtype.name] for at, x in leaves]
    text = json.dumps([shapes, marks_of(params)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
