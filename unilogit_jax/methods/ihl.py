# SPDX-License-Identifier: Apache-2.0
"""Inverted hinge loss, from LoKU (Cha et al. 2024, arXiv:2408.06621)."""

from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Array, Float

from unilogit_jax.losses import ihl_from_log_odds
from unilogit_jax.methods._common import Unlearning, set_mean
from unilogit_jax.methods._fields import Positive
from unilogit_jax.methods._protocol import Needs
from unilogit_jax.types import FORGET, TokenStats


@dataclass(frozen=True, kw_only=True)
class Ihl(Unlearning):
    """Moves probability from the label to its strongest rival, until that leads by a margin.

    L = mean_t max(0, margin + p_t - max_{j != y} p_tj) + retain_weight * NLL(retain)

    The loss is bounded, and only two tokens are moved. This is the loss of LoKU; its start for
    low-rank adapters is not part of it.

    Reference: arXiv:2408.06621.
    """

    name: Literal["ihl"] = "ihl"
    margin: Positive = 1.0
    """By how much the other token has to lead; 1 is never quite reached."""

    @property
    def forget_needs(self) -> Needs:
        """The likeliest other token's log-probability."""
        return Needs(extras=frozenset({"top_logprob"}))

    @property
    def answer_sets(self) -> frozenset[int]:
        """Forget answers."""
        return frozenset({FORGET})

    def answer_loss(self, stats: TokenStats, state: Any) -> Float[Array, ""]:
        """The mean over forget tokens."""
        del state
        values = ihl_from_log_odds(stats.log_odds, stats.extras["top_logprob"], margin=self.margin)
        return self.forget_weight * set_mean(values, stats, FORGET)
