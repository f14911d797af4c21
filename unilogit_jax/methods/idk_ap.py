# SPDX-License-Identifier: Apache-2.0
"""Refusal tuning with answer preservation (Yuan et al. 2024, arXiv:2410.08109)."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from jaxtyping import Array, Float

from unilogit_jax.losses import answer_preservation, cross_entropy_from_log_odds
from unilogit_jax.methods._common import Unlearning, answer_mean, answer_sums, of_partner
from unilogit_jax.methods._fields import Positive, Weight
from unilogit_jax.methods._protocol import Needs, Result
from unilogit_jax.types import ALTERNATE, RETAIN, RETAIN_ALTERNATE, TokenStats


@dataclass(frozen=True, kw_only=True)
class IdkAp(Unlearning):
    """Teaches refusals of forget questions, and keeps retain answers likelier than refusals.

    L = forget_weight * NLL(refusal of a forget question)
        - (ap_weight/beta) mean_i log sigmoid(beta (log p(y_i) - log p(refusal_i)))

    The mean runs over retain answers y_i, the log-probabilities are sums over an answer's tokens.
    The second term stands in for a retain term; `retain_weight` adds one nevertheless.

    Reference: arXiv:2410.08109.
    """

    pairs: ClassVar[bool] = True
    forget_set: ClassVar[int] = ALTERNATE

    name: Literal["idk_ap"] = "idk_ap"
    retain_weight: Weight = 0.0
    """Weight of a further retain term; 0 leaves it out."""
    ap_weight: Weight = 1.0
    """Weight of answer preservation."""
    beta: Positive = 0.1
    """Inverse temperature of answer preservation."""

    @property
    def forget_needs(self) -> Needs:
        """Refusals in place of forget rows, and of the retain questions."""
        return Needs(alternates=frozenset({"refusal", "retain_refusal"}), forget=False)

    @property
    def set_weights(self) -> dict[int, float]:
        """Weights of the means over tokens."""
        return {ALTERNATE: self.forget_weight, RETAIN: self.retain_weight}

    @property
    def answer_sets(self) -> frozenset[int]:
        """Retain answers and refusals of their questions."""
        return frozenset({RETAIN, RETAIN_ALTERNATE})

    def answer_loss(self, stats: TokenStats, state: Any) -> Float[Array, ""]:
        """Answer preservation: the mean over retain answers."""
        del state
        logprobs = -cross_entropy_from_log_odds(stats.log_odds)
        values = answer_preservation(
            answer_sums(logprobs, stats, RETAIN),
            of_partner(answer_sums(logprobs, stats, RETAIN_ALTERNATE), stats),
            beta=self.beta,
        )
        return self.ap_weight * answer_mean(values, stats, RETAIN)

    def terms(self) -> tuple["IdkAp", "IdkAp"]:
        """Answer preservation belongs to the retain term."""
        forget = replace(self, retain_weight=0.0, ap_weight=0.0)
        return forget, replace(self, forget_weight=0.0)

    def __call__(self, stats: TokenStats, state: Any) -> Result:
        """Loss and numbers; answer preservation counts to the retain loss."""
        loss, numbers = super().__call__(stats, state)
        kept = self.answer_loss(stats, state)
        return loss, numbers | {
            "forget_loss": numbers["forget_loss"] - kept,
            "retain_loss": numbers["retain_loss"] + kept,
        }
