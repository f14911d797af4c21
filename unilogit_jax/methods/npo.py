# SPDX-License-Identifier: Apache-2.0
"""Negative preference optimisation (Zhang et al. 2024, arXiv:2404.05868)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from unilogit_jax.losses import npo_from_log_odds
from unilogit_jax.methods._common import PYDANTIC, Result, answer_mean, with_retain
from unilogit_jax.types import FORGET, TokenStats


@dataclass(frozen=True, kw_only=True)
class Npo:
    """Treats each forget answer as the losing side of a preference, against the start model.

    L = -(2/beta) mean_i log sigmoid(-beta (log p(y_i) - log p_ref(y_i)))
        + retain_weight * NLL(retain)

    The mean runs over forget answers, the log-probabilities are sums over an answer's tokens.

    Reference: arXiv:2404.05868, equation 3.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = PYDANTIC
    needs: ClassVar[frozenset[str]] = frozenset({"ref_log_odds"})

    name: Literal["npo"] = "npo"
    beta: float = 0.1
    """Inverse temperature; towards 0 the loss becomes gradient ascent."""
    retain_weight: float = 1.0
    """Weight of the retain negative log-likelihood."""

    def __call__(self, stats: TokenStats, state: Any) -> Result:
        """The loss of one batch."""
        assert stats.ref_log_odds is not None  # the trainer provides what `needs` names
        mask = (stats.sets == FORGET) & (stats.weights > 0)
        values = npo_from_log_odds(
            stats.log_odds,
            stats.ref_log_odds,
            mask,
            stats.segments,
            num_segments=stats.num_segments,
            beta=self.beta,
        )
        forget_loss = answer_mean(values, stats, FORGET)
        return with_retain(forget_loss, stats, state, self.retain_weight)
