# SPDX-License-Identifier: Apache-2.0
"""Gradient difference: ascent on forget, descent on retain (Liu et al. 2022, arXiv:2203.12817)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from jaxtyping import Array, Float, Int

from unilogit_jax.losses import grad_ascent_from_log_odds
from unilogit_jax.methods._common import PYDANTIC, Result, forget_or_nll, set_mean, with_retain
from unilogit_jax.types import FORGET, RETAIN, TokenStats


@dataclass(frozen=True, kw_only=True)
class GradDiff:
    """Raises the negative log-likelihood of the forget answers without bound.

    L = -NLL(forget) + retain_weight * NLL(retain)

    With `retain_weight: 0` this is plain gradient ascent.

    Reference: arXiv:2203.12817.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = PYDANTIC
    needs: ClassVar[frozenset[str]] = frozenset()

    name: Literal["grad_diff"] = "grad_diff"
    retain_weight: float = 1.0
    """Weight of the retain negative log-likelihood."""

    @property
    def set_weights(self) -> dict[int, float]:
        """Weights of the two means."""
        return {FORGET: 1.0, RETAIN: self.retain_weight}

    def token_loss(
        self, log_odds: Float[Array, "*T"], sets: Int[Array, "*T"], *, vocab_size: int
    ) -> Float[Array, "*T"]:
        """The log-likelihood of forget tokens, the negative one of the others."""
        del vocab_size
        return forget_or_nll(grad_ascent_from_log_odds(log_odds), log_odds, sets)

    def __call__(self, stats: TokenStats, state: Any) -> Result:
        """The loss of one batch."""
        values = self.token_loss(stats.log_odds, stats.sets, vocab_size=stats.vocab_size)
        return with_retain(set_mean(values, stats, FORGET), stats, state, self.retain_weight)
