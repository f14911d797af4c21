# SPDX-License-Identifier: Apache-2.0
"""UnDIAL: self-distillation with adjusted logits (Dong et al. 2024, arXiv:2402.10052)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from jaxtyping import Array, Float, Int

from unilogit_jax.losses import cross_entropy_from_log_odds
from unilogit_jax.methods._common import PYDANTIC, Result, set_mean, with_retain
from unilogit_jax.ops import Divergence
from unilogit_jax.types import FORGET, RETAIN, TokenStats


@dataclass(frozen=True, kw_only=True)
class Undial:
    """The start model is the teacher, with the label's logit lowered by a constant.

    L = mean_t CE(softmax(z_ref - beta e_y), p_t) + retain_weight * NLL(retain)

    Reference: arXiv:2402.10052.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = PYDANTIC
    needs: ClassVar[frozenset[str]] = frozenset({"ref_hidden"})

    name: Literal["undial"] = "undial"
    beta: float = 10.0
    """How much the label's logit is lowered."""
    retain_weight: float = 1.0
    """Weight of the retain negative log-likelihood."""

    @property
    def set_weights(self) -> dict[int, float]:
        """Weights of the two means."""
        return {FORGET: 1.0, RETAIN: self.retain_weight}

    @property
    def divergences(self) -> dict[int, Divergence]:
        """Forget tokens against the lowered teacher."""
        return {FORGET: Divergence(direction="cross_entropy", beta=self.beta)}

    def token_loss(
        self, log_odds: Float[Array, "*T"], sets: Int[Array, "*T"], *, vocab_size: int
    ) -> Float[Array, "*T"]:
        """The negative log-likelihood, of the other tokens."""
        del sets, vocab_size
        return cross_entropy_from_log_odds(log_odds)

    def __call__(self, stats: TokenStats, state: Any) -> Result:
        """The loss of one batch."""
        assert stats.divergence is not None  # the trainer fills it as `divergences` says
        forget_loss = set_mean(stats.divergence, stats, FORGET)
        return with_retain(forget_loss, stats, state, self.retain_weight)
