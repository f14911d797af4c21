# SPDX-License-Identifier: Apache-2.0
"""Whether what was unlearned comes back: coarse weights, other prompts, draws, inner layers."""

from unilogit_jax.evaluation.robustness.dress import (
    INSTRUCTION,
    PREFIX,
    ROLE,
    SHOTS,
    begun,
    in_front,
    shown_before,
)
from unilogit_jax.evaluation.robustness.lens import make_lens
from unilogit_jax.evaluation.robustness.quantize import (
    GROUP,
    ROUNDINGS,
    nf4_levels,
    quantize,
    round_int4,
    round_int8,
    round_nf4,
)
from unilogit_jax.evaluation.robustness.questions import (
    forget_probes,
    is_asked,
    other_words,
    question_task,
)
from unilogit_jax.evaluation.robustness.sampled import LEAK, gives_away, leak_rule, leak_shares

__all__ = [
    "GROUP",
    "INSTRUCTION",
    "LEAK",
    "PREFIX",
    "ROLE",
    "ROUNDINGS",
    "SHOTS",
    "begun",
    "forget_probes",
    "gives_away",
    "in_front",
    "is_asked",
    "leak_rule",
    "leak_shares",
    "make_lens",
    "nf4_levels",
    "other_words",
    "quantize",
    "question_task",
    "round_int4",
    "round_int8",
    "round_nf4",
    "shown_before",
]
