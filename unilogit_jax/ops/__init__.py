# SPDX-License-Identifier: Apache-2.0
"""Array operations that losses and models share; they need jax only, and a mesh as an argument."""

from unilogit_jax.ops.blocks import LONGEST_ROW
from unilogit_jax.ops.divergence import (
    DivergenceStats,
    Teacher,
    chunked_divergence,
    divergence_loss,
)
from unilogit_jax.ops.generic import generic_logits, generic_top
from unilogit_jax.ops.generic_head import GenericHead, generic_log_odds
from unilogit_jax.ops.head import HeadStats, head_loss, label_log_odds
from unilogit_jax.ops.log_odds import label_columns, log_odds
from unilogit_jax.ops.logit_gap import logit_gap
from unilogit_jax.ops.slopes import with_slopes
from unilogit_jax.ops.spread import HeadSharding
from unilogit_jax.ops.stored import TopK
from unilogit_jax.ops.targets import Divergence
from unilogit_jax.ops.top import top_tokens

__all__ = [
    "LONGEST_ROW",
    "Divergence",
    "DivergenceStats",
    "GenericHead",
    "HeadSharding",
    "HeadStats",
    "Teacher",
    "TopK",
    "chunked_divergence",
    "divergence_loss",
    "generic_log_odds",
    "generic_logits",
    "generic_top",
    "head_loss",
    "label_columns",
    "label_log_odds",
    "log_odds",
    "logit_gap",
    "top_tokens",
    "with_slopes",
]
