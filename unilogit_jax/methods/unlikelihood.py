# SPDX-License-Identifier: Apache-2.0
"""Unlikelihood (Welleck et al. 2019, arXiv:1908.04319)."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Array, Float

from unilogit_jax.losses import unlikelihood_from_log_odds
from unilogit_jax.methods._common import Unlearning
from unilogit_jax.methods._protocol import Given


@dataclass(frozen=True, kw_only=True)
class Unlikelihood(Unlearning):
    """Makes anything but the label likely; its slope does not vanish on memorised tokens.

    L = mean_t -log(1 - p_t) + retain_weight * NLL(retain)

    Reference: arXiv:1908.04319.
    """

    name: Literal["unlikelihood"] = "unlikelihood"

    def forget_token_loss(
        self, log_odds: Float[Array, "*T"], given: Given, *, vocab_size: int
    ) -> Float[Array, "*T"]:
        """Unlikelihood."""
        del given, vocab_size
        return unlikelihood_from_log_odds(log_odds)
