# SPDX-License-Identifier: Apache-2.0
"""Gradient ascent alone (Jang et al. 2022, arXiv:2210.01504)."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Array, Float

from unilogit_jax.losses import grad_ascent_from_log_odds
from unilogit_jax.methods._common import Unlearning
from unilogit_jax.methods._fields import Weight
from unilogit_jax.methods._protocol import Given


@dataclass(frozen=True, kw_only=True)
class GradAscent(Unlearning):
    """Raises the negative log-likelihood of the forget answers without bound; nothing is retained.

    L = -NLL(forget)

    Reference: arXiv:2210.01504.
    """

    name: Literal["grad_ascent"] = "grad_ascent"
    retain_weight: Weight = 0.0
    """Weight of the retain term; 0 leaves it out."""

    def forget_token_loss(
        self, log_odds: Float[Array, "*T"], given: Given, *, vocab_size: int
    ) -> Float[Array, "*T"]:
        """The log-likelihood."""
        del given, vocab_size
        return grad_ascent_from_log_odds(log_odds)
