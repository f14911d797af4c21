# SPDX-License-Identifier: Apache-2.0
"""Negative preference optimisation (Zhang et al. 2024, arXiv:2404.05868)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from jaxtyping import Array, Float

from unilogit_jax.losses import npo_from_log_odds
from unilogit_jax.methods._common import Unlearning, answer_mean
from unilogit_jax.methods._fields import Positive
from unilogit_jax.methods._protocol import Needs
from unilogit_jax.types import FORGET, TokenStats


@dataclass(frozen=True, kw_only=True)
class Npo(Unlearning):
    """Treats each forget answer as the losing side of a preference, against the start model.

    L = -(2/beta) mean_i log sigmoid(-beta (log p(y_i) - log p_ref(y_i)))
        + retain_weight * NLL(retain)

    The mean runs over forget answers, the log-probabilities are sums over an answer's tokens.

    Reference: arXiv:2404.05868, equation 3.

    Note: The code of MUSE (muse_bench) puts single logits into the sigmoid where the
    log-probability of the answer belongs: rows published with it are of another loss.
    """

    answers_apart: ClassVar[bool] = True

    name: Literal["npo"] = "npo"
    beta: Positive = 0.1
    """Inverse temperature; towards 0 the loss becomes gradient ascent."""

    @property
    def forget_needs(self) -> Needs:
        """The start model's log-odds of forget labels."""
        return Needs(ref_log_odds=frozenset({FORGET}))

    @property
    def answer_sets(self) -> frozenset[int]:
        """Forget answers."""
        return frozenset({FORGET})

    def answer_loss(self, stats: TokenStats, state: Any) -> Float[Array, ""]:
        """The mean over forget answers."""
        del state
        assert stats.ref_log_odds is not None  # the trainer provides it, as `needs` says
        values = npo_from_log_odds(
            stats.log_odds,
            stats.ref_log_odds,
            (stats.sets == FORGET) & (stats.weights > 0),
            stats.segments,
            num_segments=stats.num_segments,
            beta=self.beta,
        )
        return self.forget_weight * answer_mean(values, stats, FORGET)
