# SPDX-License-Identifier: Apache-2.0
"""Refusal tuning: forget questions are answered with "I don't know" (Maini et al. 2024)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Array, Float

from unilogit_jax.losses import cross_entropy_from_log_odds
from unilogit_jax.methods._common import Unlearning
from unilogit_jax.methods._protocol import Given, Needs
from unilogit_jax.types import ALTERNATE


@dataclass(frozen=True, kw_only=True)
class Idk(Unlearning):
    """Teaches refusals of the forget questions; the forget answers themselves are not looked at.

    L = forget_weight * NLL(refusal) + retain_weight * NLL(retain)

    Reference: arXiv:2401.06121.
    """

    forget_set: ClassVar[int] = ALTERNATE

    name: Literal["idk"] = "idk"

    @property
    def forget_needs(self) -> Needs:
        """Refusals in place of forget rows."""
        return Needs(alternates=frozenset({"refusal"}), forget=False)

    def forget_token_loss(
        self, log_odds: Float[Array, "*T"], given: Given, *, vocab_size: int
    ) -> Float[Array, "*T"]:
        """The negative log-likelihood of a refusal's tokens."""
        del given, vocab_size
        return cross_entropy_from_log_odds(log_odds)
