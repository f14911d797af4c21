# SPDX-License-Identifier: Apache-2.0
"""Plain finetuning: the negative log-likelihood of every supervised token; it unlearns nothing."""

from dataclasses import dataclass

from jaxtyping import Array, Float

from unilogit_jax.losses import cross_entropy_from_log_odds
from unilogit_jax.methods._common import Unlearning
from unilogit_jax.methods._protocol import Given, Result
from unilogit_jax.types import RETAIN, TokenStats


@dataclass(frozen=True, kw_only=True)
class Finetune(Unlearning):
    """Mean negative log-likelihood over the supervised tokens of the batch, all rows to be kept."""

    @property
    def set_weights(self) -> dict[int, float]:
        """All rows count as rows to keep."""
        return {RETAIN: 1.0}

    def token_loss(
        self, log_odds: Float[Array, "*T"], given: Given, *, vocab_size: int
    ) -> Float[Array, "*T"]:
        """The negative log-likelihood."""
        del given, vocab_size
        return cross_entropy_from_log_odds(log_odds)

    def __call__(self, stats: TokenStats, state: object) -> Result:
        """The loss of one batch."""
        loss, metrics = super().__call__(stats, state)
        return loss, {"loss": metrics["loss"]}
