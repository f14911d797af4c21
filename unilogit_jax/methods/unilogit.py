# SPDX-License-Identifier: Apache-2.0
"""Unilogit: uniform-target self-distillation (Vasilev et al. 2025, arXiv:2505.06027)."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Array, Float

from unilogit_jax.losses import unilogit_from_log_odds
from unilogit_jax.methods._common import Unlearning
from unilogit_jax.methods._fields import Share
from unilogit_jax.methods._protocol import Given


@dataclass(frozen=True, kw_only=True)
class Unilogit(Unlearning):
    """The current model is its own teacher, with the label's probability set to 1/V.

    L = mean_t KL(p_t || target_t) + retain_weight * NLL(retain)

    The target keeps the ratios of all other tokens. No reference model is needed.

    Reference: arXiv:2505.06027.
    """

    name: Literal["unilogit"] = "unilogit"
    direction: Literal["reverse", "forward"] = "reverse"
    """KL(model || target), the paper's, or KL(target || model)."""
    tau: Share | None = None
    """Probability that the target gives to the label; null is the paper's 1/V."""

    def forget_token_loss(
        self, log_odds: Float[Array, "*T"], given: Given, *, vocab_size: int
    ) -> Float[Array, "*T"]:
        """Unilogit."""
        del given
        return unilogit_from_log_odds(
            log_odds, vocab_size=vocab_size, direction=self.direction, tau=self.tau
        )
