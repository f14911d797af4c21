# SPDX-License-Identifier: Apache-2.0
"""AltPO: alternate preference optimisation (Mekala et al. 2024, arXiv:2409.13474)."""

from dataclasses import dataclass
from typing import Literal

from unilogit_jax.methods.dpo import Preference


@dataclass(frozen=True, kw_only=True)
class AltPo(Preference):
    """Preference optimisation whose winners are plausible other answers, not refusals.

    L = -mean_i log sigmoid(beta D_i) + retain_weight * NLL(retain)

    Every forget row gives its other answers under "alternates", or the file data.alternates does;
    with several the passes over the forget rows take them in turn. See `Dpo` for D_i.

    Reference: arXiv:2409.13474.
    """

    name: Literal["altpo"] = "altpo"
    alternates: Literal["answer"] = "answer"
    """The winners: the answers under "alternates" of the forget rows."""
