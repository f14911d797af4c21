# SPDX-License-Identifier: Apache-2.0
"""Task arithmetic (Ilharco et al. 2022, arXiv:2212.04089), as a baseline of MUSE."""

from dataclasses import dataclass
from typing import Any, Literal

import jax
from jaxtyping import Array, Float

from unilogit_jax.losses import cross_entropy_from_log_odds
from unilogit_jax.methods._common import Unlearning
from unilogit_jax.methods._fields import NonNegative, Weight
from unilogit_jax.methods._protocol import Given


@dataclass(frozen=True, kw_only=True)
class Reinforce(Unlearning):
    """Teaches the forget answers even better: forget_weight * NLL(forget), nothing retained."""

    retain_weight: Weight = 0.0
    """Weight of the retain term; 0 leaves it out."""

    def forget_token_loss(
        self, log_odds: Float[Array, "*T"], given: Given, *, vocab_size: int
    ) -> Float[Array, "*T"]:
        """The negative log-likelihood."""
        del given, vocab_size
        return cross_entropy_from_log_odds(log_odds)


@dataclass(frozen=True, kw_only=True)
class TaskVector(Reinforce):
    """Trains on the forget answers, then takes several times the step back.

    L = NLL(forget)
    result = theta - alpha (theta_trained - theta)

    Training lowers the loss of the forget answers, the numbers of its log included; the weights
    that a run keeps and evaluates are those of the second line.

    Reference: arXiv:2212.04089; alpha as in MUSE, arXiv:2407.06460.
    """

    name: Literal["task_vector"] = "task_vector"
    alpha: NonNegative = 5.0
    """How many times the step of training is taken back; 0 gives the start weights."""

    def finish(self, start: Any, trained: Any) -> Any:
        """The start weights less alpha times what training added."""
        return jax.tree.map(lambda old, new: old - self.alpha * (new - old), start, trained)
