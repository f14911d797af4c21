# SPDX-License-Identifier: Apache-2.0
"""Refuses requests that cannot be served in turn, before the first one is."""

import json
from collections.abc import Sequence

import jax

from unilogit_jax.config import Experiment, read_config
from unilogit_jax.errors import ConfigError, DataError
from unilogit_jax.paths import AnyPath
from unilogit_jax.workflows._sketch import sketch
from unilogit_jax.workflows._targets import check_targets


def request_words(request: str) -> tuple[str, ...]:
    """Overrides that make something the rows to forget."""
    return (f"data.forget={json.dumps(request)}",)


def check_requests(
    source: AnyPath | str, requests: Sequence[str], overrides: Sequence[str], whole: Experiment
) -> None:
    """Reads and encodes the data of every request, without weights.

    Args:
      source: a configuration.
      requests: values of `data.forget`.
      overrides: of the configuration.
      whole: what a model from scratch learns first.

    Raises:
      ConfigError: two requests are for the same rows, or several methods are to be compared.
      DataError: rows are not usable, or a request would keep what an earlier one forgot.

    """
    if whole.model.scratch is not None:
        _rows(whole)
    earlier: dict[str, set[tuple[str | None, str]]] = {}
    for request in requests:
        experiment = read_config(source, *overrides, *request_words(request)).experiment
        forget, retain = _rows(experiment)
        for name, rows in earlier.items():
            if rows == forget:
                raise ConfigError(
                    f"--requests {name} and {request} ask for the same rows: with benchmark "
                    f"{experiment.data.benchmark}, name splits or files that differ."
                )
            if again := rows & retain:
                raise DataError(
                    f"{len(again)} rows that request {name} forgets are among the rows that the "
                    f"later request {request} keeps, which would teach them anew: take them out of "
                    "data.retain, or order the requests otherwise."
                )
        earlier[request] = forget


def _rows(experiment: Experiment) -> tuple[set, set]:
    """Question and answer of what is forgotten and what is kept, all of it found to be usable."""
    if experiment.compare:
        raise ConfigError(
            "--requests go on from one method's result: drop compare, and run each method's "
            "requests by themselves."
        )
    prepared, _ = sketch(experiment, devices=jax.devices())
    check_targets(prepared)
    if prepared.tokenizer is not None:
        _ = prepared.evaluator
    task = prepared.task
    forget, retain = (
        {(row.question, row.answer) for row in rows} for rows in (task.forget, task.retain)
    )
    return forget, retain
