# SPDX-License-Identifier: Apache-2.0
"""Tau from the start model itself, asked about the forget rows with other people in them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from unilogit_jax import models
from unilogit_jax.data import draw_names, mean_log_odds, read_lines, swap_names
from unilogit_jax.data.names import Renaming
from unilogit_jax.errors import DataError
from unilogit_jax.train import log_odds_under
from unilogit_jax.types import IGNORE, Items
from unilogit_jax.workflows._prepare import Prepared


def check_names(prepared: Prepared, method: Any) -> None:
    """Refuses rows without names, too few other names, tokens without places in the text.

    Raises:
      DataError: what is missing, and where to give it.

    """
    _renamings(prepared, method)
    if prepared.tokenizer is not None and not getattr(prepared.tokenizer, "is_fast", False):
        raise DataError(
            "method.tau name_swap needs to know which characters a token stands for, which this "
            "tokenizer does not say: it needs one with a tokenizer.json."
        )


def name_swap_log_odds(
    prepared: Prepared, method: Any, start: Any, say: Callable[[str], None], progress: Items
) -> Float[np.ndarray, "B L"]:
    """Log-odds of each forget label, the mean over rows with other names; 1/V where there is none.

    Args:
      prepared: the experiment.
      method: its `tau_names` and `tau_mean`.
      start: weights of the start model.
      say: told how many labels correspond to none of any other row.
      progress: told of rows that are done.

    """
    data, forget = prepared.experiment.data, prepared.forget
    swapped = swap_names(
        prepared.tokenizer,
        prepared.task.forget,
        _renamings(prepared, method),
        forget,
        template=data.template,
        max_length=data.max_length,
        system=data.system,
    )
    log_odds = log_odds_under(
        models.apply_fn(prepared.model),
        start,
        replace(swapped.rows, unseen=forget.unseen),
        batch_size=prepared.experiment.eval.batch_size,
        mesh=prepared.mesh,
        progress=progress,
    )
    values, count = mean_log_odds(
        swapped,
        log_odds,
        forget.labels.shape,
        mean=method.tau_mean,
        otherwise=-math.log(prepared.model.config.vocab_size - 1),
    )
    labels = forget.labels != IGNORE
    if missing := int((labels & (count == 0)).sum()):
        say(
            f"tau name_swap: {missing} of {int(labels.sum())} forget labels keep the target 1/V, "
            "since they correspond to no token where the names are others; "
            f"{swapped.unnamed} of {len(forget)} rows have none of their names in their text."
        )
    return values


def _renamings(prepared: Prepared, method: Any) -> Sequence[Sequence[Renaming]]:
    """The same whenever it is asked."""
    experiment, task = prepared.experiment, prepared.task
    if experiment.data.names is not None:
        pool: Sequence[str] = read_lines(experiment.data.names)
    else:
        pool = task.names or [name for row in task.retain for name in row.names]
    return draw_names(task.forget, pool, count=method.tau_names, seed=experiment.output.seed)
