# SPDX-License-Identifier: Apache-2.0
"""Who's Harry Potter (Eldan and Russinovich 2023, arXiv:2310.02238), distilled into the weights."""

from dataclasses import dataclass
from typing import Literal

from unilogit_jax.methods._common import Unlearning
from unilogit_jax.methods._fields import Count, NonNegative
from unilogit_jax.methods._protocol import Comparison, Needs
from unilogit_jax.ops import Divergence
from unilogit_jax.types import FORGET


@dataclass(frozen=True, kw_only=True)
class Whp(Unlearning):
    """The teacher is the start model without what a model that knows the answers better prefers.

    v_generic = v_start - alpha relu(v_reinforced - v_start)
    L = mean_t CE(softmax(v_generic), p_t) + retain_weight * NLL(retain)

    The reinforced model is the start model trained on the forget answers, in a stage of its own
    with the settings of `unlearn`; once the targets are stored only its checkpoint is kept. With it
    `unilogit evaluate RUN --whp RUN` decodes by v_generic itself and leaves the weights alone.

    Reference: arXiv:2310.02238; alpha as in MUSE, arXiv:2407.06460.

    Note: the paper also replaces names by generic ones before it makes the targets; here the
    targets come from the logits alone.
    """

    name: Literal["whp"] = "whp"
    alpha: NonNegative = 5.0
    """How strongly tokens are lowered that the reinforced model prefers; with 0 the teacher is the
    start model."""
    top_k: Count = 64
    """How many of the teacher's likeliest other tokens are stored for each label. All others count
    as one; without what it knew the teacher is broad, so these are more than Unilogit's 8."""

    @property
    def forget_needs(self) -> Needs:
        """What the teacher says of forget labels."""
        return Needs(
            ref_log_odds=frozenset({FORGET}), ref_top=self.top_k, reinforced=float(self.alpha)
        )

    @property
    def forget_comparisons(self) -> tuple[Comparison, ...]:
        """Forget tokens against the teacher."""
        how = Divergence(direction="cross_entropy")
        return (Comparison(which=FORGET, divergence=how, teacher="stored"),)
