# SPDX-License-Identifier: Apache-2.0
"""SatImp: weights by saturation and importance (Yang et al. 2025, arXiv:2505.11953)."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Array, Float

from unilogit_jax.losses import satimp_from_log_odds
from unilogit_jax.methods._common import Unlearning
from unilogit_jax.methods._fields import NonNegative, Weight
from unilogit_jax.methods._protocol import Given


@dataclass(frozen=True, kw_only=True)
class SatImp(Unlearning):
    """Gradient ascent on tokens that are known well, but not for certain.

    L = forget_weight * mean_t sg[p_t^beta1 (1 - p_t)^beta2] log p_t + retain_weight * NLL(retain)

    The weight is a number without gradient. The defaults are those of OpenUnlearning, whose users
    and authors found them ineffective: take them as untuned, and raise `forget_weight` first.

    Reference: arXiv:2505.11953.

    Note: OpenUnlearning loads a copy of the start model that this loss never uses; its page on
    the method gives gamma 1 and alpha 0.1, its configuration the defaults here.
    """

    name: Literal["satimp"] = "satimp"
    forget_weight: Weight = 0.1
    """Weight of the forget loss (gamma in part of the literature)."""
    beta1: NonNegative = 5.0
    """Exponent of p; both exponents 0 is gradient ascent."""
    beta2: NonNegative = 1.0
    """Exponent of 1 - p."""

    def forget_token_loss(
        self, log_odds: Float[Array, "*T"], given: Given, *, vocab_size: int
    ) -> Float[Array, "*T"]:
        """The weighed log-likelihood."""
        del given, vocab_size
        return satimp_from_log_odds(log_odds, beta1=self.beta1, beta2=self.beta2)
