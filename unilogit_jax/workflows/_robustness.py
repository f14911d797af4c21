# SPDX-License-Identifier: Apache-2.0
"""What attacks on a run's models achieved, out of its attack.json, for the report."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from unilogit_jax.paths import AnyPath
from unilogit_jax.run import AttackRow
from unilogit_jax.workflows._findings import FILE, number_text, read_page
from unilogit_jax.workflows._report_facts import in_order


class Robustness(NamedTuple):
    """What a report shows of attacks; empty where there were none."""

    rows: Sequence[AttackRow]
    columns: Sequence[str]
    curves: Sequence[Mapping[str, Any]]
    settings: str


def read_robustness(run: AnyPath) -> Robustness:
    """Reads what `unilogit attack` has left in a run folder.

    Raises:
      CheckpointError: the file is damaged.

    """
    page = read_page(run / FILE)
    rows = [
        AttackRow(
            attack=row["attack"],
            setting=row["setting"],
            title=row["title"],
            wanted=row["wanted"],
            values={name: number_text(x) for name, x in row["values"].items()},
        )
        for row in page["rows"]
    ]
    columns = dict.fromkeys(name for row in rows for name in row.values)
    return Robustness(rows, in_order(columns), page["curves"], _settings(page["settings"]))


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
