# SPDX-License-Identifier: Apache-2.0
"""Finds the log that a model is measured against: a file, a run, or a folder of an evaluation."""

from typing import Any

from unilogit_jax.errors import ConfigError
from unilogit_jax.evaluation import SUITES
from unilogit_jax.paths import to_source
from unilogit_jax.run import read_json


def read_reference(source: str | None, suite: str) -> dict[str, Any] | None:
    """The parsed log of a model that never saw the forget rows; None if none is named.

    Args:
      source: a log's file, a run (its gold model, else the one it started from), or a folder that
        `unilogit evaluate --out` made.
      suite: of the task.

    Raises:
      ConfigError: there is no such log, or the task has no suite whose log it could be.

    """
    if source is None:
        return None
    if not suite:
        raise ConfigError(
            "eval.reference is a published benchmark's log, and this data has none: it is for "
            f"data.benchmark {' or '.join(SUITES)}."
        )
    path, name = to_source(source), SUITES[suite].file
    if path.is_file():
        return read_json(path)
    places = [f"eval/gold.{name}", f"eval/before.{name}", name]
    for place in places:
        if (path / place).is_file():
            return read_json(path / place)
    raise ConfigError(
        f"eval.reference {source}: no such log. It is the path of a {name}, or of a folder with "
        f"one of {', '.join(places)}."
    )
