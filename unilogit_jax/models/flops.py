# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of one training update: what it takes at least, whatever a program computes again."""

from collections.abc import Sequence
from functools import cache

import jax

from unilogit_jax.models.build import param_shapes
from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.models.decoder import Decoder


def update_flops(
    config: DecoderConfig,
    lengths: Sequence[int],
    supervised: int,
    *,
    frozen: bool = False,
    layer: int | None = None,
    gradients: int = 1,
) -> int:
    """Floating-point operations of the matmuls of one update, forward and backward.

    2 per weight of a linear layer and token, of the head per supervised token; 4 H d for every pair
    of a token and one that it sees; the backward pass takes twice the forward's, or as much where
    the weights are frozen. Padding, masked pairs and recomputation do not count, so that
    operations per second over a device's peak are the model FLOPs utilisation (MFU).

    Args:
      config: the model.
      lengths: tokens of each example.
      supervised: tokens with a label.
      frozen: adapters are trained; their own operations are left out.
      layer: the forward pass ends behind this layer, and there is no head; None: it does not.
      gradients: how many an update takes, each with a forward pass.

    Example:
      >>> config = DecoderConfig.scratch(vocab_size=16, width=8, layers=1, heads=2)
      >>> update_flops(config, [3], 2)
      20544

    Reference: arXiv:2204.02311, appendix B, with causal attention counted once.
    """
    layers = config.layers if layer is None else layer + 1
    head = config.vocab_size * config.width if layer is None else 0
    linear = _linear(config) * layers // config.layers
    local = sum(config.local_layers[:layers])
    pairs = local * sum(_pairs(n, config.window) for n in lengths)
    pairs += (layers - local) * sum(_pairs(n, None) for n in lengths)
    attention = 4 * config.heads * config.head_dim * pairs
    forward = 2 * linear * sum(lengths) + 2 * head * supervised + attention
    return forward * (2 if frozen else 3) * gradients


@cache
def _linear(config: DecoderConfig) -> int:
    """Weights of all linear layers; counted once per model, since every update asks."""
    layers = param_shapes(Decoder(config))["layers"]
    # Vectors and norms are no kernels, and what they take is not worth counting.
    paths = jax.tree_util.tree_leaves_with_path(layers)
    return sum(x.size for path, x in paths if getattr(path[-1], "key", "") == "kernel")


def _pairs(length: int, window: int | None) -> int:
    """Tokens that those of an example see, themselves included."""
    full = length if window is None else min(length, window)
    return full * (full + 1) // 2 + (length - full) * full
