# SPDX-License-Identifier: Apache-2.0
"""KL minimisation: ascent on forget, the start model on retain (Maini et al. 2024, 2401.06121)."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Array, Float

from unilogit_jax.losses import grad_ascent_from_log_odds
from unilogit_jax.methods._common import Unlearning
from unilogit_jax.methods._protocol import Given


@dataclass(frozen=True, kw_only=True)
class KlMin(Unlearning):
    """Gradient ascent on the forget answers, while the retain answers keep their distribution.

    L = -NLL(forget) + retain_weight * KL(start model || model) on retain

    Reference: arXiv:2401.06121, section 3.
    """

    name: Literal["kl_min"] = "kl_min"
    retain: Literal["nll", "kl", "kl_open_unlearning"] = "kl"
    """Retain term: KL(start model || model); with nll this is the method grad_diff."""

    def forget_token_loss(
        self, log_odds: Float[Array, "*T"], given: Given, *, vocab_size: int
    ) -> Float[Array, "*T"]:
        """The log-likelihood."""
        del given, vocab_size
        return grad_ascent_from_log_odds(log_odds)
