# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind and says: folder, metrics log, console, pictures, report."""

from unilogit_jax.run.console import Console
from unilogit_jax.run.environment import describe_environment
from unilogit_jax.run.files import read_json, write_json
from unilogit_jax.run.folder import RunFolder
from unilogit_jax.run.item_plots import plot_items, plot_robustness, plot_truth_ratios
from unilogit_jax.run.metrics import MetricsLog
from unilogit_jax.run.plots import plot_bars, plot_curves, plot_front, plot_tradeoff
from unilogit_jax.run.processes import make_console
from unilogit_jax.run.report import (
    AnswerRow,
    AttackRow,
    Facts,
    MetricRow,
    Picture,
    Report,
    StageCost,
    write_report,
)
from unilogit_jax.run.stage import Stage

__all__ = [
    "AnswerRow",
    "AttackRow",
    "Console",
    "Facts",
    "MetricRow",
    "MetricsLog",
    "Picture",
    "Report",
    "RunFolder",
    "Stage",
    "StageCost",
    "describe_environment",
    "make_console",
    "plot_bars",
    "plot_curves",
    "plot_front",
    "plot_items",
    "plot_robustness",
    "plot_tradeoff",
    "plot_truth_ratios",
    "read_json",
    "write_json",
    "write_report",
]
