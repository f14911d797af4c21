# SPDX-License-Identifier: Apache-2.0
"""Array operations that losses and models share; they need jax only and know no mesh."""

from unilogit_jax.ops.head import HeadStats, label_log_odds
from unilogit_jax.ops.log_odds import label_columns, log_odds

__all__ = ["HeadStats", "label_columns", "label_log_odds", "log_odds"]
