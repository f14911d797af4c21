# SPDX-License-Identifier: Apache-2.0
"""MUSE's numbers: a log in the layout of MUSE_EVAL.json, from the items of its panels."""

from typing import Any

from unilogit_jax.evaluation.items import Evaluation
from unilogit_jax.evaluation.suites._log import attacks, memorization, rouges

_ROUGE = {
    "forget_knowmem_ROUGE": "forget_knowmem",
    "retain_knowmem_ROUGE": "retain_knowmem",
    "forget_verbmem_ROUGE": "verbmem",
}


def muse_log(evaluation: Evaluation) -> dict[str, Any]:
    """What MUSE_EVAL.json holds, as far as the panels are there."""
    log = {
        name: rouges(items, "rougeL_f1")
        for name, group in _ROUGE.items()
        if (items := evaluation.of(group))
    }
    if verbatim := evaluation.of("verbmem"):
        log |= memorization(verbatim)
    forget, holdout = evaluation.of("privleak_forget"), evaluation.of("privleak_holdout")
    if forget and holdout:
        log |= attacks(forget, holdout)
    return log
