# SPDX-License-Identifier: Apache-2.0
"""Which differences between columns of runs are within noise, and what the mark for it means."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from unilogit_jax import metrics
from unilogit_jax.evaluation import Evaluation, item_values
from unilogit_jax.paths import AnyPath
from unilogit_jax.workflows._stored import read_evaluation

MARK = "≈"


@dataclass(frozen=True)
class Measured:
    """What one run measured of one model."""

    numbers: Mapping[str, float]
    file: AnyPath
    """Its items, where they are kept."""

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """The items, or None."""
        return read_evaluation(self.file).evaluation if self.file.is_file() else None


Columns = Mapping[str, Sequence[Measured]]


def noise_marks(columns: Columns) -> set[tuple[str, str]]:
    """Columns and numbers whose difference from the first column's is within noise.

    With several runs of both, by Welch's interval over the seeds; with one of each, by the paired
    bootstrap over the items, if both were asked the same ones. Else nothing is known, and nothing
    marked.

    Args:
      columns: column -> what its runs measured, of methods alone: the models around them are shared
        by runs, so that their spread would be counted too small.

    """
    if not columns:
        return set()
    first, *others = columns
    return {
        (name, key)
        for name in others
        for key, difference in _differences(columns[first], columns[name]).items()
        if difference.holds_zero
    }


def said_of(columns: Columns, marks: Collection[tuple[str, str]]) -> list[str]:
    """What the marks mean, or that there are none; nothing where there is one column."""
    if len(columns) < 2:
        return []
    first, *others = columns
    ways = {name: _way(columns[first], columns[name]) for name in others}
    unknown = [name for name, way in ways.items() if way is None]
    lines = []
    if known := [text for text in _WAYS if text in ways.values()]:
        how = f"95 % intervals: {'; '.join(known)}"
        lines = [
            f"{MARK} the difference from {first} is within noise ({how})."
            if marks
            else f"No difference from {first} is within noise ({how})."
        ]
    if unknown:
        lines.append(
            f"Whether differences from {first} are noise is not known for {', '.join(unknown)}: "
            "give both several seeds, or one run each that was measured on the same items."
        )
    return lines


_SEEDS, _ITEMS = "Welch's, over seeds", "a paired bootstrap over items"
_WAYS = (_SEEDS, _ITEMS)


def _way(a: Sequence[Measured], b: Sequence[Measured]) -> str | None:
    """How two columns can be compared."""
    if len(a) > 1 and len(b) > 1:
        return _SEEDS
    return _ITEMS if len(a) == len(b) == 1 and _same_items(a[0], b[0]) else None


def _differences(a: Sequence[Measured], b: Sequence[Measured]) -> dict[str, metrics.Interval]:
    """Number -> difference, of the numbers that can be compared."""
    way = _way(a, b)
    if way == _SEEDS:
        found = [[dict(one.numbers) for one in side] for side in (a, b)]
        keys = set.intersection(*(set(numbers) for side in found for numbers in side))
        sides = {key: [np.array([n[key] for n in side], float) for side in found] for key in keys}
        return {key: metrics.welch_interval(*both) for key, both in sides.items()}
    if way is None:
        return {}
    values = [item_values(x.evaluation) for x in (a[0], b[0]) if x.evaluation is not None]
    return {
        key: metrics.paired_interval(values[0][key], values[1][key])
        for key in set(values[0]) & set(values[1]) & set(a[0].numbers) & set(b[0].numbers)
    }


def _same_items(a: Measured, b: Measured) -> bool:
    sides = [x.evaluation.asked() for x in (a, b) if x.evaluation is not None]
    return len(sides) == 2 and sides[0] == sides[1]
