# SPDX-License-Identifier: Apache-2.0
"""Weighted gradient ascent (Wang et al. 2025, arXiv:2502.19301)."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Array, Float

from unilogit_jax.losses import wga_from_log_odds
from unilogit_jax.methods._common import Unlearning
from unilogit_jax.methods._fields import NonNegative
from unilogit_jax.methods._protocol import Given


@dataclass(frozen=True, kw_only=True)
class Wga(Unlearning):
    """Gradient ascent that lets go of tokens as they become unlikely.

    L = mean_t sg[p_t^beta] log p_t + retain_weight * NLL(retain)

    The weight is a number without gradient.

    Reference: arXiv:2502.19301.

    Note: OpenUnlearning loads a copy of the start model that this loss never uses.
    """

    name: Literal["wga"] = "wga"
    beta: NonNegative = 1.0
    """Exponent of the weight; 0 is gradient ascent."""

    def forget_token_loss(
        self, log_odds: Float[Array, "*T"], given: Given, *, vocab_size: int
    ) -> Float[Array, "*T"]:
        """The weighed log-likelihood."""
        del given, vocab_size
        return wga_from_log_odds(log_odds, beta=self.beta)
