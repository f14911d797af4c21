# SPDX-License-Identifier: Apache-2.0
"""Unlearning methods: one frozen dataclass each, listed in one table."""

from unilogit_jax.methods._common import (
    Unlearning,
    answer_lengths,
    answer_mean,
    answer_sums,
    of_partner,
    set_mean,
    with_retain,
)
from unilogit_jax.methods._protocol import Comparison, Given, Method, Needs, Structured
from unilogit_jax.methods.altpo import AltPo
from unilogit_jax.methods.dpo import Dpo
from unilogit_jax.methods.finetune import Finetune
from unilogit_jax.methods.flat import Flat
from unilogit_jax.methods.grad_diff import GradDiff
from unilogit_jax.methods.idk import Idk
from unilogit_jax.methods.idk_ap import IdkAp
from unilogit_jax.methods.jensun import JensUn
from unilogit_jax.methods.npo import Npo
from unilogit_jax.methods.simnpo import SimNpo
from unilogit_jax.methods.undial import Undial
from unilogit_jax.methods.unilogit import Unilogit

METHODS = {
    "unilogit": Unilogit,
    "npo": Npo,
    "undial": Undial,
    "grad_diff": GradDiff,
    "simnpo": SimNpo,
    "dpo": Dpo,
    "altpo": AltPo,
    "idk": Idk,
    "idk_ap": IdkAp,
    "flat": Flat,
    "jensun": JensUn,
}
"""Name in a configuration file -> class. `Finetune` trains models; it unlearns nothing."""

__all__ = [
    "METHODS",
    "AltPo",
    "Comparison",
    "Dpo",
    "Finetune",
    "Flat",
    "Given",
    "GradDiff",
    "Idk",
    "IdkAp",
    "JensUn",
    "Method",
    "Needs",
    "Npo",
    "SimNpo",
    "Structured",
    "Undial",
    "Unilogit",
    "Unlearning",
    "answer_lengths",
    "answer_mean",
    "answer_sums",
    "of_partner",
    "set_mean",
    "with_retain",
]
