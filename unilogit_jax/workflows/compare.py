# SPDX-License-Identifier: Apache-2.0
"""Several runs in one table: those that differ by their seed alone are one column."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unilogit_jax import metrics
from unilogit_jax.config import load_config
from unilogit_jax.errors import CheckpointError
from unilogit_jax.evaluation import MEANINGS
from unilogit_jax.paths import AnyPath
from unilogit_jax.run import Console, RunFolder, make_console
from unilogit_jax.run.files import read_numbers, with_nan
from unilogit_jax.workflows._noise import MARK, Measured, noise_marks, said_of

SEEDS = ("output.seed", "data.seed")
_BESIDE = ("output.", "name", "compare", "eval.gold", "eval.grad_norm")
"""Keys that say nothing about what a model is like."""
_AROUND = ("before", "gold")
"""Columns of a run that its method has no part in."""


@dataclass(frozen=True)
class Spread:
    """A number over several runs."""

    mean: float
    deviation: float | None
    """Sample standard deviation; None for a single run."""
    runs: int
    interval: metrics.Interval | None = None
    """95 % t-interval of the mean over all seeds; None for a single run."""

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.deviation is None else f" ± {self.deviation:.3f}")


def compare(
    runs: Sequence[AnyPath | str], *, console: Console | None = None
) -> dict[str, dict[str, Spread]]:
    """Puts the numbers of finished runs side by side; prints a table.

    Runs whose configurations differ by seeds alone are one column, with mean and sample standard
    deviation. A column is called by what sets it apart from the others. The models before
    unlearning and gold are taken over all runs. Numbers whose difference from the first method's
    is within noise are marked.

    Args:
      runs: folders of finished runs.
      console: where to print; None prints to standard output.

    Returns:
      Column -> number -> its mean and deviation.

    Raises:
      CheckpointError: a folder is no run, or has no numbers yet.

    """
    console = make_console() if console is None else console
    columns = _columns([_Run.read(run) for run in runs])
    spreads = _spreads(columns)
    methods = {name: found for name, found in columns.items() if name not in _AROUND}
    marks = noise_marks(methods)
    rows = [
        [
            meaning.title,
            meaning.direction,
            *(_cell(found.get(key), (name, key) in marks) for name, found in spreads.items()),
        ]
        for key, meaning in MEANINGS.items()
        if any(key in spread for spread in spreads.values())
    ]
    counts = {name: len(found) for name, found in columns.items()}
    heads = [f"{name} ({counts[name]})" if counts[name] > 1 else name for name in spreads]
    console.table("means over runs, ± standard deviation", ["metric", "better", *heads], rows)
    for line in said_of(methods, marks):
        console.line(line)
    return spreads


def spreads_of(runs: Sequence[AnyPath | str]) -> dict[str, dict[str, Spread]]:
    """What `compare` returns, without a word."""
    return _spreads(_columns([_Run.read(run) for run in runs]))


def _spreads(columns: Mapping[str, Sequence[Measured]]) -> dict[str, dict[str, Spread]]:
    found = {name: [one.numbers for one in ones] for name, ones in columns.items()}
    return {
        name: {key: _spread([n[key] for n in numbers if key in n]) for key in _keys(numbers)}
        for name, numbers in found.items()
    }


@dataclass(frozen=True)
class _Run:
    settings: Mapping[str, str]
    """Dotted key -> value, seeds and what has no influence left out."""
    columns: Mapping[str, Measured]

    @classmethod
    def read(cls, path: AnyPath | str) -> "_Run":
        folder = RunFolder.open(path)
        if not folder.summary.is_file():
            raise CheckpointError(
                f"{folder.path} has no summary.json: its status is '{folder.status}'. Finish it "
                f"with unilogit unlearn --resume {folder.path}"
            )
        numbers: dict[str, dict[str, float]] = {}
        for name, value in with_nan(read_numbers(folder.summary)).items():
            column, _, key = name.rpartition(".")
            if key in MEANINGS:
                numbers.setdefault(column, {})[key] = value
        settings = _settings(load_config(folder.config).model_dump(mode="json"))
        files = {column: folder.eval / f"{column}.json" for column in numbers}
        return cls(settings, {name: Measured(n, files[name]) for name, n in numbers.items()})


def _settings(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if name in SEEDS or name.startswith(_BESIDE):
            continue
        more = isinstance(value, dict)
        found |= _settings(value, f"{name}.") if more else {name: _written(value)}
    return found


def _written(value: Any) -> str:
    """A value as files and overrides have it."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _columns(runs: Sequence[_Run]) -> dict[str, list[Measured]]:
    """Column -> what each of its runs measured: before first, gold last."""
    apart = [key for key in _keys([run.settings for run in runs]) if _differs(key, runs)]
    apart.sort(key=lambda key: not key.startswith("method."))
    columns: dict[str, list[Measured]] = {"before": []}
    for run in runs:
        for column, measured in run.columns.items():
            columns.setdefault(_called(run, column, apart), []).append(measured)
    columns["gold"] = columns.pop("gold", [])
    return {name: found for name, found in columns.items() if found}


def _differs(key: str, runs: Sequence[_Run]) -> bool:
    """Whether runs have several values of a key; of a method's key, runs of one method."""
    values: dict[str, set[str | None]] = {}
    for run in runs:
        method = run.settings.get("method.name", "") if key.startswith("method.") else ""
        values.setdefault(method, set()).add(run.settings.get(key))
    return any(len(found) > 1 for found in values.values())


def _called(run: _Run, column: str, apart: Sequence[str]) -> str:
    """What sets a column apart: the method's name first, then what is not the same everywhere."""
    if column in _AROUND:
        return column
    method = run.settings.get("method.label") or run.settings.get("method.name", "")
    rest = [
        f"{key.removeprefix('method.').removeprefix('unlearn.')}={run.settings[key]}"
        for key in apart
        if key in run.settings and key not in ("method.name", "method.label")
    ]
    return " ".join([method if column == "after" else column, *rest])


def _keys(found: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for one in found for key in one))


def _spread(values: Sequence[float]) -> Spread:
    if len(values) == 1:
        return Spread(values[0], None, 1)
    mean, deviation, interval = metrics.seed_spread(np.array(values, np.float64))
    return Spread(mean, deviation, len(values), interval)


def _cell(spread: Spread | None, marked: bool) -> str:
    return "-" if spread is None else f"{spread}{f' {MARK}' * marked}"
