# SPDX-License-Identifier: Apache-2.0
"""Gradient difference: ascent on forget, descent on retain (Liu et al. 2022, arXiv:2203.12817)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from unilogit_jax.losses import grad_ascent_from_log_odds
from unilogit_jax.methods._common import PYDANTIC, Result, set_mean, with_retain
from unilogit_jax.types import FORGET, TokenStats


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

    def __call__(self, stats: TokenStats, state: Any) -> Result:
        """The loss of one batch."""
        values = grad_ascent_from_log_odds(stats.log_odds)
        return with_retain(set_mean(values, stats, FORGET), stats, state, self.retain_weight)
