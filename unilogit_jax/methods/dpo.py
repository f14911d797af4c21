# SPDX-License-Identifier: Apache-2.0
"""Preference optimisation against refusals or other answers (Rafailov et al. 2023)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from jaxtyping import Array, Float

from unilogit_jax.losses import cross_entropy_from_log_odds, dpo
from unilogit_jax.methods._common import Unlearning, answer_mean, answer_sums, of_partner
from unilogit_jax.methods._fields import Positive
from unilogit_jax.methods._protocol import Needs
from unilogit_jax.types import ALTERNATE, FORGET, TokenStats


@dataclass(frozen=True, kw_only=True)
class Preference(Unlearning):
    """What the methods share that prefer another answer to the forget answer."""

    pairs: ClassVar[bool] = True

    beta: Positive = 0.1
    """Inverse temperature."""
    alternates: Literal["refusal", "answer"] = "refusal"
    """The winners: lines of refusal, or the answers under "alternates" of the forget rows."""
    compat: Literal["none", "open_unlearning"] = "none"
    """open_unlearning multiplies the forget loss by 2 / beta, as that library does."""

    @property
    def forget_needs(self) -> Needs:
        """The start model's log-odds of the labels of both answers."""
        return Needs(
            ref_log_odds=frozenset({FORGET, ALTERNATE}), alternates=frozenset({self.alternates})
        )

    @property
    def answer_sets(self) -> frozenset[int]:
        """Forget answers and the others."""
        return frozenset({FORGET, ALTERNATE})

    def answer_loss(self, stats: TokenStats, state: Any) -> Float[Array, ""]:
        """The mean over forget answers."""
        del state
        assert stats.ref_log_odds is not None  # the trainer provides it, as `needs` says
        nll = cross_entropy_from_log_odds(stats.log_odds)
        gain = cross_entropy_from_log_odds(stats.ref_log_odds) - nll
        winners = of_partner(answer_sums(gain, stats, ALTERNATE), stats)
        losers = answer_sums(gain, stats, FORGET)
        values = dpo(winners, losers, beta=self.beta, compat=self.compat)
        return self.forget_weight * answer_mean(values, stats, FORGET)


@dataclass(frozen=True, kw_only=True)
class Dpo(Preference):
    """Prefers another answer to the forget answer, both measured against the start model.

    L = -mean_i log sigmoid(beta D_i) + retain_weight * NLL(retain)

    D_i is log p(other) - log p_ref(other) less the same of the forget answer, sums over tokens. The
    other answer is a refusal, or one that the forget row gives.

    Reference: arXiv:2305.18290, equation 7; for unlearning arXiv:2401.06121.

    Note: OpenUnlearning multiplies the forget term by 2/beta, as NPO does
    (`compat: open_unlearning`).
    """

    name: Literal["dpo"] = "dpo"
