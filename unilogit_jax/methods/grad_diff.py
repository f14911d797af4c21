# SPDX-License-Identifier: Apache-2.0
"""Gradient difference: ascent on forget, descent on retain (Liu et al. 2022, arXiv:2203.12817)."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Array, Float

from unilogit_jax.losses import grad_ascent_from_log_odds
from unilogit_jax.methods._common import Unlearning
from unilogit_jax.methods._protocol import Given


@dataclass(frozen=True, kw_only=True)
class Ascent(Unlearning):
    """What the methods share that raise the negative log-likelihood of forget answers."""

    def forget_token_loss(
        self, log_odds: Float[Array, "*T"], given: Given, *, vocab_size: int
    ) -> Float[Array, "*T"]:
        """The log-likelihood."""
        del given, vocab_size
        return grad_ascent_from_log_odds(log_odds)


@dataclass(frozen=True, kw_only=True)
class GradDiff(Ascent):
    """Raises the negative log-likelihood of the forget answers without bound.

    L = -forget_weight * NLL(forget) + retain_weight * NLL(retain)

    With `retain: kl` this is known as KL-min.

    Reference: arXiv:2203.12817.

    Note: OpenUnlearning averages over the tokens of each microbatch and then over microbatches;
    here, as in all methods, tokens are counted over the whole batch, however it is cut.
    """

    name: Literal["grad_diff"] = "grad_diff"
