# SPDX-License-Identifier: Apache-2.0
"""ME: maximising entropy on the forget set (Yuan et al. 2024, arXiv:2410.08109)."""

from dataclasses import dataclass
from typing import Literal

from unilogit_jax.methods._common import Unlearning
from unilogit_jax.methods._fields import Weight
from unilogit_jax.methods._protocol import Comparison
from unilogit_jax.ops import Divergence
from unilogit_jax.types import FORGET


@dataclass(frozen=True, kw_only=True)
class Me(Unlearning):
    """The model is to guess, at every position of a forget row, the question's included.

    L = forget_weight * mean_t KL(U || p_t) + retain_weight * NLL(retain),    U_k = 1/V

    Reference: arXiv:2410.08109.
    """

    name: Literal["me"] = "me"
    forget_weight: Weight = 0.1
    """Weight of the forget loss (gamma in part of the literature)."""

    @property
    def forget_comparisons(self) -> tuple[Comparison, ...]:
        """All positions of forget rows against the uniform distribution."""
        uniform = Comparison(
            which=FORGET, divergence=Divergence(), teacher="uniform", everywhere=True
        )
        return (uniform,)
