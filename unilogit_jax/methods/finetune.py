# SPDX-License-Identifier: Apache-2.0
"""Plain finetuning: the negative log-likelihood of every supervised token; it unlearns nothing."""

from dataclasses import dataclass
from typing import Any, ClassVar

from unilogit_jax.losses import cross_entropy_from_log_odds
from unilogit_jax.methods._common import Result, set_mean
from unilogit_jax.types import RETAIN, TokenStats


@dataclass(frozen=True, kw_only=True)
class Finetune:
    """Mean negative log-likelihood over the supervised tokens of the batch."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, stats: TokenStats, state: Any) -> Result:
        """The loss of one batch."""
        loss = set_mean(cross_entropy_from_log_odds(stats.log_odds), stats, RETAIN)
        return loss, state, {"loss": loss}
