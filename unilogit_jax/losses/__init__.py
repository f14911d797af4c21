# SPDX-License-Identifier: Apache-2.0
"""Losses as pure functions of arrays: from logits for any code base, from log-odds for this one.

Unless its docstring says otherwise a loss returns one value per token and the caller averages,
with `masked_mean`.
"""

from unilogit_jax.losses.cross_entropy import cross_entropy, cross_entropy_from_log_odds
from unilogit_jax.losses.dpo import answer_preservation, dpo
from unilogit_jax.losses.flat import flat_forget, flat_template, label_probability
from unilogit_jax.losses.grad_ascent import grad_ascent, grad_ascent_from_log_odds
from unilogit_jax.losses.grad_diff import grad_diff, grad_diff_from_log_odds
from unilogit_jax.losses.head import cross_entropy_head, undial_head, unilogit_head
from unilogit_jax.losses.ihl import ihl, ihl_from_log_odds
from unilogit_jax.losses.jensun import jensun, jensun_from_log_odds
from unilogit_jax.losses.npo import npo, npo_from_log_odds
from unilogit_jax.losses.reduce import masked_mean, sequence_logprobs
from unilogit_jax.losses.rmu import rmu
from unilogit_jax.losses.satimp import satimp, satimp_from_log_odds
from unilogit_jax.losses.simnpo import simnpo
from unilogit_jax.losses.undial import undial
from unilogit_jax.losses.unilogit import unilogit, unilogit_from_log_odds, unilogit_target
from unilogit_jax.losses.unilogit_sequence import unilogit_sequence_from_log_odds
from unilogit_jax.losses.unlikelihood import unlikelihood, unlikelihood_from_log_odds
from unilogit_jax.losses.wga import wga, wga_from_log_odds

__all__ = [
    "answer_preservation",
    "cross_entropy",
    "cross_entropy_from_log_odds",
    "cross_entropy_head",
    "dpo",
    "flat_forget",
    "flat_template",
    "grad_ascent",
    "grad_ascent_from_log_odds",
    "grad_diff",
    "grad_diff_from_log_odds",
    "ihl",
    "ihl_from_log_odds",
    "jensun",
    "jensun_from_log_odds",
    "label_probability",
    "masked_mean",
    "npo",
    "npo_from_log_odds",
    "rmu",
    "satimp",
    "satimp_from_log_odds",
    "sequence_logprobs",
    "simnpo",
    "undial",
    "undial_head",
    "unilogit",
    "unilogit_from_log_odds",
    "unilogit_head",
    "unilogit_sequence_from_log_odds",
    "unilogit_target",
    "unlikelihood",
    "unlikelihood_from_log_odds",
    "wga",
    "wga_from_log_odds",
]
