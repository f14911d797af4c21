# SPDX-License-Identifier: Apache-2.0
"""Suites: the numbers of published benchmarks, and the logs that they are made from, in a table."""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from unilogit_jax.evaluation.items import Evaluation
from unilogit_jax.evaluation.suites._log import reference_attack
from unilogit_jax.evaluation.suites.muse import muse_log
from unilogit_jax.evaluation.suites.panels import RWKU, WMDP, means, panel_log
from unilogit_jax.evaluation.suites.tofu import tofu_log
from unilogit_jax.metrics import summarize_muse_log, summarize_tofu_log

Log = Mapping[str, Any]


class Suite(NamedTuple):
    """How a benchmark's published numbers come about."""

    file: str
    """What the log is called."""
    log: Callable[[Evaluation], dict[str, Any]]
    """The log of an evaluation, in the published layout."""
    summarize: Callable[[Log, Log | None], dict[str, float]]
    """The numbers of a log, some of them against the log of a model that never saw the data."""
    names: Mapping[str, str]
    """Number of a log -> what it is called in a run's summary; others stay in the log."""

    def numbers(
        self, evaluation: Evaluation, reference: Evaluation | Log | None
    ) -> dict[str, float]:
        """The numbers of a run's summary."""
        found = self._summed(self.log(evaluation), self._log_of(reference))
        return {self.names[name]: value for name, value in found.items() if name in self.names}

    def full_log(
        self, evaluation: Evaluation, reference: Evaluation | Log | None
    ) -> dict[str, Any]:
        """The log with the numbers that are made of several metrics, or of two models."""
        log, against = self.log(evaluation), self._log_of(reference)
        log |= reference_attack(log, against)
        found = self._summed(log, against)
        more = {name: {"agg_value": value} for name, value in found.items() if name not in log}
        return log | more

    def _log_of(self, reference: Evaluation | Log | None) -> Log | None:
        return self.log(reference) if isinstance(reference, Evaluation) else reference

    def _summed(self, log: Log, against: Log | None) -> dict[str, float]:
        """The numbers of a log; what lacks a reference is left out without a word."""
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            return self.summarize(log, against)


_MEMORY = {
    "exact_memorization": "exact_memorization",
    "extraction_strength_exact": "extraction_strength",
    "mia_min_k": "membership_auc",
    "privleak": "privleak",
}

SUITES = {
    "tofu": Suite(
        "TOFU_EVAL.json",
        tofu_log,
        summarize_tofu_log,
        {
            "model_utility": "model_utility",
            "forget_quality": "forget_ks_p",
            "forget_quality_distance": "forget_ks_distance",
        }
        | _MEMORY,
    ),
    "muse": Suite(
        "MUSE_EVAL.json",
        muse_log,
        summarize_muse_log,
        {
            "forget_knowmem_ROUGE": "forget_knowledge",
            "forget_verbmem_ROUGE": "forget_verbatim",
            "retain_knowmem_ROUGE": "retain_knowledge",
        }
        | _MEMORY,
    ),
    "rwku": Suite(
        "RWKU_EVAL.json", partial(panel_log, measures=RWKU), means, {name: name for name in RWKU}
    ),
    "wmdp": Suite(
        "WMDP_EVAL.json", partial(panel_log, measures=WMDP), means, {name: name for name in WMDP}
    ),
}
"""Suite of a task -> its numbers and log."""
