# SPDX-License-Identifier: Apache-2.0
"""Array operations that losses and models share; they need jax only, and a mesh as an argument."""

from unilogit_jax.ops.head import HeadStats, head_loss, label_log_odds
from unilogit_jax.ops.log_odds import label_columns, log_odds
from unilogit_jax.ops.spread import HeadSharding

__all__ = [
    "HeadSharding",
    "HeadStats",
    "head_loss",
    "label_columns",
    "label_log_odds",
    "log_odds",
]
