# SPDX-License-Identifier: Apache-2.0
"""Plain finetuning: the negative log-likelihood of every supervised token; it unlearns nothing."""

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Array, Float, Int

from unilogit_jax.losses import cross_entropy_from_log_odds
from unilogit_jax.methods._common import Result, set_mean
from unilogit_jax.types import RETAIN, TokenStats


@dataclass(frozen=True, kw_only=True)
class Finetune:
    """Mean negative log-likelihood over the supervised tokens of the batch."""

    needs: ClassVar[frozenset[str]] = frozenset()

    @property
    def set_weights(self) -> dict[int, float]:
        """All rows count as rows to keep."""
        return {RETAIN: 1.0}

    def token_loss(
        self, log_odds: Float[Array, "*T"], sets: Int[Array, "*T"], *, vocab_size: int
    ) -> Float[Array, "*T"]:
        """The negative log-likelihood."""
        del sets, vocab_size
        return cross_entropy_from_log_odds(log_odds)

    def __call__(self, stats: TokenStats, state: Any) -> Result:
        """The loss of one batch."""
        values = self.token_loss(stats.log_odds, stats.sets, vocab_size=stats.vocab_size)
        loss = set_mean(values, stats, RETAIN)
        return loss, state, {"loss": loss}
