# SPDX-License-Identifier: Apache-2.0
"""Unilogit: uniform-target self-distillation (Vasilev et al. 2025, arXiv:2505.06027)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from jaxtyping import Array, Float, Int

from unilogit_jax.losses import unilogit_from_log_odds
from unilogit_jax.methods._common import PYDANTIC, Result, forget_or_nll, set_mean, with_retain
from unilogit_jax.types import FORGET, RETAIN, TokenStats


@dataclass(frozen=True, kw_only=True)
class Unilogit:
    """The current model is its own teacher, with the label's probability set to 1/V.

    L = mean_t KL(p_t || target_t) + retain_weight * NLL(retain)

    The target keeps the ratios of all other tokens. No reference model is needed.

    Reference: arXiv:2505.06027.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = PYDANTIC
    needs: ClassVar[frozenset[str]] = frozenset()

    name: Literal["unilogit"] = "unilogit"
    direction: Literal["reverse", "forward"] = "reverse"
    """KL(model || target), the paper's, or KL(target || model)."""
    tau: float | None = None
    """Probability that the target gives to the label; null is the paper's 1/V."""
    retain_weight: float = 1.0
    """Weight of the retain negative log-likelihood."""

    @property
    def set_weights(self) -> dict[int, float]:
        """Weights of the two means."""
        return {FORGET: 1.0, RETAIN: self.retain_weight}

    def token_loss(
        self, log_odds: Float[Array, "*T"], sets: Int[Array, "*T"], *, vocab_size: int
    ) -> Float[Array, "*T"]:
        """Unilogit on forget tokens, the negative log-likelihood on the others."""
        values = unilogit_from_log_odds(
            log_odds, vocab_size=vocab_size, direction=self.direction, tau=self.tau
        )
        return forget_or_nll(values, log_odds, sets)

    def __call__(self, stats: TokenStats, state: Any) -> Result:
        """The loss of one batch."""
        values = self.token_loss(stats.log_odds, stats.sets, vocab_size=stats.vocab_size)
        return with_retain(set_mean(values, stats, FORGET), stats, state, self.retain_weight)
