# SPDX-License-Identifier: Apache-2.0
"""SimNPO: negative preference without a reference (Fan et al. 2024, arXiv:2410.07163)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from jaxtyping import Array, Float

from unilogit_jax.losses import cross_entropy_from_log_odds, simnpo
from unilogit_jax.methods._common import Unlearning, answer_lengths, answer_mean, answer_sums
from unilogit_jax.methods._fields import Positive, Weight
from unilogit_jax.types import FORGET, TokenStats


@dataclass(frozen=True, kw_only=True)
class SimNpo(Unlearning):
    """Pushes forget answers down by their mean token, the likeliest answers most.

    L = -(2/beta) mean_i log sigmoid(beta (nll_i - delta)) + retain_weight * NLL(retain)

    The mean runs over forget answers, nll_i is the mean over the tokens of one.

    Reference: arXiv:2410.07163.
    """

    answers_apart: ClassVar[bool] = True

    name: Literal["simnpo"] = "simnpo"
    forget_weight: Weight = 0.125
    """Weight of the forget loss (gamma in part of the literature)."""
    beta: Positive = 4.5
    """Inverse temperature."""
    delta: float = 0.0
    """Negative log-likelihood per token that is worth half the push; the paper's margin gamma is
    beta * delta."""

    @property
    def answer_sets(self) -> frozenset[int]:
        """Forget answers."""
        return frozenset({FORGET})

    def answer_loss(self, stats: TokenStats, state: Any) -> Float[Array, ""]:
        """The mean over forget answers."""
        del state
        nll = cross_entropy_from_log_odds(stats.log_odds)
        values = simnpo(
            -answer_sums(nll, stats, FORGET),
            answer_lengths(stats, FORGET),
            beta=self.beta,
            delta=self.delta,
        )
        return self.forget_weight * answer_mean(values, stats, FORGET)
