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
from unilogit_jax.methods._protocol import Comparison, Finishing, Given, Method, Needs, Structured
from unilogit_jax.methods.altpo import AltPo
from unilogit_jax.methods.ce_u import CeU
from unilogit_jax.methods.delete import Delete
from unilogit_jax.methods.dpo import Dpo
from unilogit_jax.methods.finetune import Finetune
from unilogit_jax.methods.flat import Flat
from unilogit_jax.methods.grad_ascent import GradAscent
from unilogit_jax.methods.grad_diff import GradDiff
from unilogit_jax.methods.idk import Idk
from unilogit_jax.methods.idk_ap import IdkAp
from unilogit_jax.methods.ihl import Ihl
from unilogit_jax.methods.jensun import JensUn
from unilogit_jax.methods.kl_min import KlMin
from unilogit_jax.methods.me import Me
from unilogit_jax.methods.npo import Npo
from unilogit_jax.methods.npo_sam import NpoSam
from unilogit_jax.methods.pdu import Pdu
from unilogit_jax.methods.rmu import Rmu
from unilogit_jax.methods.satimp import SatImp
from unilogit_jax.methods.simnpo import SimNpo
from unilogit_jax.methods.task_vector import Reinforce, TaskVector
from unilogit_jax.methods.undial import Undial
from unilogit_jax.methods.unilogit import Unilogit
from unilogit_jax.methods.unlikelihood import Unlikelihood
from unilogit_jax.methods.wga import Wga
from unilogit_jax.methods.whp import Whp

METHODS = {
    "unilogit": Unilogit,
    "npo": Npo,
    "npo_sam": NpoSam,
    "undial": Undial,
    "grad_diff": GradDiff,
    "grad_ascent": GradAscent,
    "kl_min": KlMin,
    "wga": Wga,
    "satimp": SatImp,
    "unlikelihood": Unlikelihood,
    "ce_u": CeU,
    "me": Me,
    "ihl": Ihl,
    "delete": Delete,
    "simnpo": SimNpo,
    "dpo": Dpo,
    "altpo": AltPo,
    "idk": Idk,
    "idk_ap": IdkAp,
    "flat": Flat,
    "jensun": JensUn,
    "rmu": Rmu,
    "pdu": Pdu,
    "task_vector": TaskVector,
    "whp": Whp,
}
"""Name in a configuration file -> class. `Finetune` and `Reinforce` unlearn nothing."""

__all__ = [
    "METHODS",
    "AltPo",
    "CeU",
    "Comparison",
    "Delete",
    "Dpo",
    "Finetune",
    "Finishing",
    "Flat",
    "Given",
    "GradAscent",
    "GradDiff",
    "Idk",
    "IdkAp",
    "Ihl",
    "JensUn",
    "KlMin",
    "Me",
    "Method",
    "Needs",
    "Npo",
    "NpoSam",
    "Pdu",
    "Reinforce",
    "Rmu",
    "SatImp",
    "SimNpo",
    "Structured",
    "TaskVector",
    "Undial",
    "Unilogit",
    "Unlearning",
    "Unlikelihood",
    "Wga",
    "Whp",
    "answer_lengths",
    "answer_mean",
    "answer_sums",
    "of_partner",
    "set_mean",
    "with_retain",
]
