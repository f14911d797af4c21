# SPDX-License-Identifier: Apache-2.0
"""UnDIAL: self-distillation with adjusted logits (Dong et al. 2024, arXiv:2402.10052)."""

from dataclasses import dataclass
from typing import Literal

from unilogit_jax.methods._common import Unlearning
from unilogit_jax.methods._fields import NonNegative
from unilogit_jax.methods._protocol import Comparison, Needs
from unilogit_jax.ops import Divergence
from unilogit_jax.types import FORGET, IGNORE


@dataclass(frozen=True, kw_only=True)
class Undial(Unlearning):
    """The start model is the teacher, with the label's logit lowered by a constant.

    L = mean_t CE(softmax(z_ref - beta e_y), p_t) + retain_weight * NLL(retain)

    Published without a retain term; here the usual one is added, `retain_weight: 0` leaves it out.

    Reference: arXiv:2402.10052.

    Note: The authors' code takes the mean over all tokens of plain text, OpenUnlearning over
    all positions of a row (`compat`); here over the answers' tokens.
    """

    name: Literal["undial"] = "undial"
    beta: NonNegative = 10.0
    """How much the label's logit is lowered."""
    compat: Literal["none", "open_unlearning"] = "none"
    """open_unlearning repeats what that code base does: the mean is over all positions of the
    forget rows, the question's and the closing token's too, and where there is no label the token
    V - 100 is lowered in its place (-100, the mark for no label, used as an index). Padding, which
    counts there as well, is left out: rows here are not padded to the length of a batch."""

    @property
    def forget_needs(self) -> Needs:
        """The start model's hidden states on forget rows."""
        return Needs(ref_hidden=frozenset({FORGET}))

    @property
    def forget_comparisons(self) -> tuple[Comparison, ...]:
        """Forget tokens against the lowered teacher."""
        how = Divergence(direction="cross_entropy", beta=self.beta)
        everywhere = self.compat == "open_unlearning"
        return (Comparison(which=FORGET, divergence=how, everywhere=everywhere, unlabelled=IGNORE),)
