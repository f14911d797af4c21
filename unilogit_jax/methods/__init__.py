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
from unilogit_jax.methods.finetune import Finetune
from unilogit_jax.methods.grad_diff import GradDiff
from unilogit_jax.methods.npo import Npo
from unilogit_jax.methods.pdu import Pdu
from unilogit_jax.methods.rmu import Rmu
from unilogit_jax.methods.undial import Undial
from unilogit_jax.methods.unilogit import Unilogit

METHODS = {
    "unilogit": Unilogit,
    "npo": Npo,
    "undial": Undial,
    "grad_diff": GradDiff,
    "rmu": Rmu,
    "pdu": Pdu,
}
"""Name in a configuration file -> class. `Finetune` trains models; it unlearns nothing."""

__all__ = [
    "METHODS",
    "Comparison",
    "Finetune",
    "Given",
    "GradDiff",
    "Method",
    "Needs",
    "Npo",
    "Pdu",
    "Rmu",
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
