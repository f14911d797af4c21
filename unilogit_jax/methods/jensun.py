# SPDX-License-Identifier: Apache-2.0
"""JensUn: Jensen-Shannon divergences on both sides (Singh et al. 2025, arXiv:2509.02820)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Array, Float

from unilogit_jax.losses import jensun_from_log_odds
from unilogit_jax.methods._common import Unlearning
from unilogit_jax.methods._protocol import Given, Needs
from unilogit_jax.types import ALTERNATE


@dataclass(frozen=True, kw_only=True)
class JensUn(Unlearning):
    """Where a forget answer stood, the model is to say a refusal, with a bounded loss.

    L = forget_weight * mean_t JS(e_r(t), p_t) + retain_weight * JS(start model, model)

    The model reads the forget answer; r(t) are the tokens of a refusal line, end token included,
    repeated over the answer's positions. e_r is certainty of r.

    Reference: arXiv:2509.02820.
    """

    forget_set: ClassVar[int] = ALTERNATE

    name: Literal["jensun"] = "jensun"
    retain: Literal["nll", "kl", "kl_open_unlearning", "js"] = "js"
    """Retain term: the paper's is js, the Jensen-Shannon divergence of start model and model; the
    others are those of all methods."""

    @property
    def forget_needs(self) -> Needs:
        """Forget rows with a refusal's tokens as labels."""
        return Needs(alternates=frozenset({"relabelled"}), forget=False)

    def forget_token_loss(
        self, log_odds: Float[Array, "*T"], given: Given, *, vocab_size: int
    ) -> Float[Array, "*T"]:
        """The divergence from certainty of the refusal's token."""
        del given, vocab_size
        return jensun_from_log_odds(log_odds)
