# SPDX-License-Identifier: Apache-2.0
"""How one family's Hugging Face tensors correspond to the decoder's parameters."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unilogit_jax.models.config import DecoderConfig


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One parameter and the tensor, or the tensors of all layers, it is stored as."""

    path: tuple[str, ...]
    """Keys into the nested parameter dict."""
    name: str
    """Hugging Face name; "{layer}" in it means one tensor per layer, stacked on our side."""
    shape: tuple[int, ...]
    """Our shape, of one layer."""
    inputs: int = 0
    """How many leading axes of our shape a linear layer sums over; 0: stored as it is."""

    @property
    def stacked(self) -> bool:
        """Whether our array holds all layers."""
        return "{layer}" in self.name

    @property
    def hf_shape(self) -> tuple[int, ...]:
        """Shape of the stored tensor: [out, in] for a linear layer."""
        if not self.inputs:
            return self.shape
        return math.prod(self.shape[self.inputs :]), math.prod(self.shape[: self.inputs])

    def names(self, layers: int) -> list[str]:
        """The names of its tensors, in layer order."""
        return [self.name.format(layer=i) for i in range(layers)] if self.stacked else [self.name]

    def from_hf(self, tensor: np.ndarray) -> np.ndarray:
        """Our array of one stored tensor."""
        return tensor.T.reshape(self.shape) if self.inputs else tensor

    def to_hf(self, array: np.ndarray) -> np.ndarray:
        """The stored tensor of one layer of our array."""
        return array.reshape(self.hf_shape[::-1]).T if self.inputs else array


@dataclass(frozen=True, kw_only=True)
class Family:
    """What is particular to one `model_type`: its config.json and the names of its tensors."""

    read_config: Callable[[Mapping[str, Any]], DecoderConfig]
    """From the parsed config.json."""
    write_config: Callable[[DecoderConfig], dict[str, Any]]
    """The keys of a config.json."""
    weights: Callable[[DecoderConfig], list[Weight]]
    """One entry per parameter."""
    ignored: tuple[str, ...] = ()
    """Endings of tensor names that old files carry and that hold no weights."""
