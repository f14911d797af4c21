# SPDX-License-Identifier: Apache-2.0
"""DELETE: the start model without the label as a teacher (Zhou et al. 2025, arXiv:2503.23751)."""

from dataclasses import dataclass
from typing import Literal

from unilogit_jax.methods._common import Unlearning
from unilogit_jax.methods._protocol import Comparison, Needs
from unilogit_jax.ops import Divergence
from unilogit_jax.types import FORGET

_NEVER = 1e4
"""Lowered by this much a label has probability 0 in float32, however sure the start model was."""


@dataclass(frozen=True, kw_only=True)
class Delete(Unlearning):
    """The start model is the teacher, with the label made impossible and all others kept.

    L = mean_t KL(softmax(z_ref with z_y = -inf) || p_t) + retain_weight * NLL(retain)

    The limit of UnDIAL for a large `beta`. Published for image classifiers, whose retain data
    were not used; here the usual term is added.

    Reference: arXiv:2503.23751.
    """

    name: Literal["delete"] = "delete"

    @property
    def forget_needs(self) -> Needs:
        """The start model's hidden states on forget rows."""
        return Needs(ref_hidden=frozenset({FORGET}))

    @property
    def forget_comparisons(self) -> tuple[Comparison, ...]:
        """Forget tokens against the start model without their labels."""
        return (Comparison(which=FORGET, divergence=Divergence(beta=_NEVER)),)
