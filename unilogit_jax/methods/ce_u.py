# SPDX-License-Identifier: Apache-2.0
"""CE-U: cross entropy unlearning (Yang 2025, arXiv:2503.01224)."""

from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from unilogit_jax.losses import unlikelihood_from_log_odds
from unilogit_jax.methods._common import Unlearning
from unilogit_jax.methods._fields import Weight
from unilogit_jax.methods._protocol import Given
from unilogit_jax.types import FORGET, Batch


@dataclass(frozen=True, kw_only=True)
class CeU(Unlearning):
    """The current model is its own teacher, with the label made impossible.

    L = mean_t CE(sg[softmax(z_t with z_y = -inf)], p_t)

    The cross entropy is softplus(m) plus the entropy of the other tokens, a number without
    gradient, which is left out: the loss is unlikelihood, and so is the gradient. Nothing is
    retained by default, as published.

    Reference: arXiv:2503.01224.
    """

    name: Literal["ce_u"] = "ce_u"
    retain_weight: Weight = 0.0
    """Weight of the retain term; 0 leaves it out."""
    skip_first: bool = True
    """Leave the first token of each forget answer out; an answer of one token then has no loss."""

    def forget_token_loss(
        self, log_odds: Float[Array, "*T"], given: Given, *, vocab_size: int
    ) -> Float[Array, "*T"]:
        """Unlikelihood."""
        del given, vocab_size
        return unlikelihood_from_log_odds(log_odds)

    def weigh(self, batch: Batch) -> Batch:
        """The batch without the first supervised token of each forget answer."""
        if not self.skip_first:
            return batch
        skipped = (batch.sets == FORGET) & _first_tokens(batch)
        return replace(batch, weights=jnp.where(skipped, 0.0, batch.weights))


def _first_tokens(batch: Batch) -> Bool[Array, "B L"]:
    """The first supervised token of each segment; a segment is one piece of one row."""
    on = batch.weights > 0
    counts = jnp.cumsum(on.astype(jnp.int32), axis=1)
    before = counts - on.astype(jnp.int32)
    begins = jnp.diff(batch.segments, axis=1, prepend=-1) != 0
    # Counts only grow, so the largest one at a beginning so far is that of this segment's.
    at_start = jax.lax.cummax(jnp.where(begins, before, 0), axis=1)
    return on & (before == at_start)
