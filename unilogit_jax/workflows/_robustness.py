# SPDX-License-Identifier: Apache-2.0
"""What attacks on a run's models achieved, out of its attack.json, for the report."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from unilogit_jax.errors import CheckpointError
from unilogit_jax.paths import AnyPath
from unilogit_jax.run import AttackRow, read_json
from unilogit_jax.workflows._findings import FILE, number_text
from unilogit_jax.workflows._report_facts import in_order


class Robustness(NamedTuple):
    """What a report shows of attacks; empty where there were none."""

    rows: Sequence[AttackRow] = ()
    columns: Sequence[str] = ()
    curves: Sequence[Mapping[str, Any]] = ()
    settings: str = ""


def read_robustness(run: AnyPath) -> Robustness:
    """Reads what `unilogit attack` has left in a run folder.

    Raises:
      CheckpointError: the file is damaged.

    """
    path = run / FILE
    if not path.is_file():
        return Robustness()
    tree = read_json(path)
    try:
        rows = [_row(row) for row in tree["rows"]]
        curves = [_curve(curve) for curve in tree.get("curves", ())]
        settings = _settings(tree.get("settings", {}))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is no record of attacks ({type(error).__name__}: {error}). Delete it and "
            "attack again."
        ) from error
    columns = dict.fromkeys(name for row in rows for name in row.values)
    return Robustness(rows, in_order(columns), curves, settings)


def _row(tree: Mapping[str, Any]) -> AttackRow:
    values = {name: number_text(x) for name, x in tree["values"].items()}
    attack, setting = str(tree["attack"]), str(tree["setting"])
    return AttackRow(attack, setting, str(tree["title"]), str(tree["wanted"]), values)


def _curve(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The curve, with nothing in it that cannot be drawn."""
    lines = {
        str(name): [(float(x), None if y is None else float(y)) for x, y in points]
        for name, points in tree["lines"].items()
    }
    return {key: str(tree[key]) for key in ("attack", "title", "x", "y")} | {"lines": lines}


def _settings(tree: Mapping[str, Any]) -> str:
    """Settings in words, what is not set left out; those of single attacks in brackets."""
    parts = []
    for name, value in tree.items():
        words = str(name).replace("_", " ")
        if isinstance(value, Mapping):
            inner = _settings(value)
            parts.append(f"{words} ({inner})" if inner else words)
        elif value not in (None, [], ""):
            text = " and ".join(map(str, value)) if isinstance(value, list) else str(value)
            parts.append(f"{words} {text}")
    return ", ".join(parts)
