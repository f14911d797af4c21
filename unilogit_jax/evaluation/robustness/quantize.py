# SPDX-License-Identifier: Apache-2.0
"""Weights rounded to eight or four bits and back, as inference in few bits reads them."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from unilogit_jax import models

GROUP = 64
"""Weights that share a scale in four bits."""


def round_int8(x: Float[Array, "*outputs inputs"]) -> Float[Array, "*outputs inputs"]:
    """Rounds to 255 levels, the largest weight of every output channel being the last one.

    s = max_i |x_i| / 127,    x_i -> s round(x_i / s)

    Args:
      x: the weights of output channels, float32.

    Returns:
      What is read back; it differs by at most s / 2.

    Example:
      >>> round_int8(jnp.array([[127.0, 3.4, -0.6]])).tolist()
      [[127.0, 3.0, -1.0]]

    Reference: arXiv:2208.07339, section 2 (absmax quantization, vector-wise).
    """
    return _symmetric(x, 127)


def round_int4(
    x: Float[Array, "*outputs inputs"], *, group: int = GROUP
) -> Float[Array, "*outputs inputs"]:
    """Rounds to 15 levels, with a scale for every so many inputs of an output channel.

    s = max_i |x_i| / 7 over the group,    x_i -> s round(x_i / s)

    Args:
      x: as in `round_int8`.
      group: neighbouring inputs with one scale; the last group may have fewer.

    Returns:
      What is read back; it differs by at most s / 2.

    Example:
      >>> round_int4(jnp.array([[7.0, 3.4, 3.5, 1.7]]), group=2).tolist()
      [[7.0, 3.0, 3.5, 1.5]]

    """
    parts = _in_groups(x, group)
    return _symmetric(parts, 7).reshape(*x.shape[:-1], -1)[..., : x.shape[-1]]


def round_nf4(
    x: Float[Array, "*outputs inputs"], *, block: int = GROUP
) -> Float[Array, "*outputs inputs"]:
    """Rounds to the nearest of QLoRA's 16 levels, times the largest weight of the block.

    s = max_i |x_i| over the block,    x_i -> s argmin_{level} |x_i / s - level|

    Args:
      x: as in `round_int8`.
      block: neighbouring inputs of an output channel with one scale; the last may have fewer.

    Returns:
      What is read back.

    Example:
      >>> round_nf4(jnp.array([[2.0, 0.01, -1.9]])).tolist()
      [[2.0, 0.0, -2.0]]

    Reference: arXiv:2305.14314, section 3 and appendix E.
    Note: scales stay as they are; QLoRA rounds them to eight bits as well (double quantization).
    """
    parts = _in_groups(x, block)
    scale = _largest(parts)
    shares, levels = parts / scale, nf4_levels()
    nearest = jnp.full_like(shares, levels[0])
    for low, high in pairwise(levels):
        nearest = jnp.where(shares > (low + high) / 2, high, nearest)
    return (nearest * scale).reshape(*x.shape[:-1], -1)[..., : x.shape[-1]]


@cache
def nf4_levels() -> Float[np.ndarray, " 16"]:
    """The levels of four-bit NormalFloat: quantiles of a normal distribution, the largest being 1.

    Eight are positive and seven negative, evenly apart in probability from a half to 1 - (1/32 +
    1/30) / 2, and zero is exact.

    Example:
      >>> print(nf4_levels()[[0, 7, 8, 15]].round(4))
      [-1.      0.      0.0796  1.    ]

    Reference: arXiv:2305.14314, section 3 and appendix E.
    """
    from scipy.stats import norm

    most = 1 - (1 / 32 + 1 / 30) / 2
    above = norm.ppf(np.linspace(most, 0.5, 9)[:-1])
    below = -norm.ppf(np.linspace(most, 0.5, 8)[:-1])
    levels = np.sort(np.concatenate([below, [0.0], above]))
    return (levels / levels.max()).astype(np.float32)


class Rounding(NamedTuple):
    """A way of rounding, and what it is called."""

    title: str
    run: Callable[[Array], Array]


ROUNDINGS = {
    "int8": Rounding("int8, per output channel", round_int8),
    "int4": Rounding(f"int4, groups of {GROUP}", round_int4),
    "nf4": Rounding(f"nf4, blocks of {GROUP}", round_nf4),
}
"""Name -> how it is done."""


def quantize(model: models.Decoder, params: Any, name: str) -> Any:
    """The weights of a model with the kernels of its linear layers rounded and read back.

    Embeddings, the head, norms and biases stay as they are, as they do where models are loaded in
    few bits.

    Args:
      model: the decoder.
      params: its weights; they stay as they are, and what is not rounded is shared with them.
      name: one of `ROUNDINGS`.

    Returns:
      Weights of the same types, each lying on the mesh as before.

    """
    paths = jax.tree_util.tree_map_with_path(
        lambda path, names: models.input_axes(names) if path[-1].key == "kernel" else 0,
        models.logical_axes(model)["layers"],
        is_leaf=lambda node: isinstance(node, tuple),
    )

    def read_back(kernel: Array, inputs: int) -> Array:
        if not inputs:
            return kernel
        run = jax.jit(_kernel, static_argnames=("inputs", "name"), out_shardings=kernel.sharding)
        return run(kernel, inputs=inputs, name=name)

    return {**params, "layers": jax.tree.map(read_back, params["layers"], paths)}


def _kernel(kernel: Array, *, inputs: int, name: str) -> Array:
    """A stack of kernels [layers, *inputs, *outputs]: output channels are put first."""
    rows = int(np.prod(kernel.shape[1 : 1 + inputs]))
    flat = kernel.astype(jnp.float32).reshape(kernel.shape[0], rows, -1)
    back = ROUNDINGS[name].run(flat.swapaxes(1, 2)).swapaxes(1, 2)
    return back.reshape(kernel.shape).astype(kernel.dtype)


def _symmetric(x: Float[Array, "*any n"], most: int) -> Float[Array, "*any n"]:
    scale = _largest(x) / most
    return jnp.round(x / scale) * scale


def _largest(x: Float[Array, "*any n"]) -> Float[Array, "*any 1"]:
    """The largest size along the last axis; 1 where all are zero."""
    largest = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
    return jnp.where(largest > 0, largest, 1.0)


def _in_groups(x: Float[Array, "*any n"], size: int) -> Float[Array, "*any groups size"]:
    """The last axis cut into groups, filled up with zeros, which change no largest size."""
    filled = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % size)])
    return filled.reshape(*x.shape[:-1], -1, size)
