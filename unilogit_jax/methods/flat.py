# SPDX-License-Identifier: Apache-2.0
"""FLAT: loss adjustment with forget data only (Wang et al. 2024, arXiv:2410.11143)."""

from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from unilogit_jax.losses import flat_forget, flat_template, label_probability
from unilogit_jax.methods._common import Unlearning, answer_lengths, answer_mean, answer_sums
from unilogit_jax.methods._fields import Weight
from unilogit_jax.methods._protocol import Needs
from unilogit_jax.types import ALTERNATE, FORGET, TokenStats


@dataclass(frozen=True, kw_only=True)
class Flat(Unlearning):
    """Widens an f-divergence between refusals and forget answers; needs no retain rows.

    kl: L = mean_i (-P(refusal_i) + exp(P(y_i) - 1))
    tv: L = mean_i (-tanh(P(refusal_i)) + tanh(P(y_i))) / 2

    P is the mean probability of an answer's tokens, the mean runs over forget questions. The push
    on a token is proportional to p (1 - p): tokens that are all but certain hardly move.

    Reference: arXiv:2410.11143.

    Note: The authors' code counts positions without a label in its means; here P is over the
    answer's tokens.
    """

    name: Literal["flat"] = "flat"
    retain_weight: Weight = 0.0
    """Weight of the retain term; 0 leaves it out."""
    divergence: Literal["kl", "tv"] = "kl"
    """The f-divergence: Kullback-Leibler or total variation."""

    @property
    def forget_needs(self) -> Needs:
        """Refusals of the forget questions."""
        return Needs(alternates=frozenset({"refusal"}))

    @property
    def answer_sets(self) -> frozenset[int]:
        """Forget answers and refusals."""
        return frozenset({FORGET, ALTERNATE})

    def answer_loss(self, stats: TokenStats, state: Any) -> Float[Array, ""]:
        """The means over refusals and over forget answers."""
        del state
        p = label_probability(stats.log_odds)
        total = jnp.zeros(())
        for which, part in ((ALTERNATE, flat_template), (FORGET, flat_forget)):
            lengths = jnp.maximum(answer_lengths(stats, which), 1.0)
            values = part(answer_sums(p, stats, which) / lengths, divergence=self.divergence)
            total = total + answer_mean(values, stats, which)
        return self.forget_weight * total
