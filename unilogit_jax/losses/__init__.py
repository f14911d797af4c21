# SPDX-License-Identifier: Apache-2.0
"""Losses as pure functions of arrays: from logits for any code base, from log-odds for this one.

Unless its docstring says otherwise a loss returns one value per token and the caller averages,
with `masked_mean`.
"""

from unilogit_jax.losses.cross_entropy import cross_entropy, cross_entropy_from_log_odds
from unilogit_jax.losses.grad_ascent import grad_ascent, grad_ascent_from_log_odds
from unilogit_jax.losses.grad_diff import grad_diff, grad_diff_from_log_odds
from unilogit_jax.losses.head import cross_entropy_head, undial_head, unilogit_head
from unilogit_jax.losses.npo import npo, npo_from_log_odds
from unilogit_jax.losses.reduce import masked_mean, sequence_logprobs
from unilogit_jax.losses.rmu import rmu
from unilogit_jax.losses.undial import undial
from unilogit_jax.losses.unilogit import unilogit, unilogit_from_log_odds, unilogit_target

__all__ = [
    "cross_entropy",
    "cross_entropy_from_log_odds",
    "cross_entropy_head",
    "grad_ascent",
    "grad_ascent_from_log_odds",
    "grad_diff",
    "grad_diff_from_log_odds",
    "masked_mean",
    "npo",
    "npo_from_log_odds",
    "rmu",
    "sequence_logprobs",
    "undial",
    "undial_head",
    "unilogit",
    "unilogit_from_log_odds",
    "unilogit_head",
    "unilogit_target",
]
