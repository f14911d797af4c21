# SPDX-License-Identifier: Apache-2.0
"""What attacks found: numbers and curves by column, as a file and as tables."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unilogit_jax.errors import CheckpointError
from unilogit_jax.paths import AnyPath
from unilogit_jax.run import Console, read_json, shapes
from unilogit_jax.run.files import checked

_POINTS = 9
"""At most so many points of a curve are printed."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number of every column."""

    attack: str
    setting: str
    number: str
    title: str
    wanted: str
    """What is wished of the column "after": like gold, lower, higher."""
    values: Mapping[str, float | None]
    """By column; None where it was not reached."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """How a number goes, of every column."""

    attack: str
    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[Sequence[float]]]
    """Column -> points, each of two numbers."""


@dataclass(frozen=True)
class Found:
    """What one attack found."""

    rows: Sequence[Row] = ()
    curves: Sequence[Curve] = ()


Page = dict[str, Any]
"""What attack.json holds: `rows` and `curves` as plain data, `settings` by attack."""


FILE = "attack.json"
"""In the run folder: {"rows": ..., "curves": ..., "settings": ...}."""


def read_page(file: AnyPath) -> Page:
    """The page in a file; without the file that of no attack.

    Raises:
      CheckpointError: the file is something else.

    """
    empty = {"rows": [], "curves": [], "settings": {}}
    page = read_json(file) if file.is_file() else empty
    if isinstance(page, dict) and page.keys() == empty.keys():
        return checked(page, shapes.Page, file)
    raise CheckpointError(
        f"{file} is no record of attacks. Delete it and attack again, or name another with --out."
    )


def enter(page: Page, attack: str, found: Found, settings: Mapping[str, Any]) -> Page:
    """The page with what an attack found, in place of what it found before.

    Example:
      >>> row = Row(attack="a", setting="", number="n", title="", wanted="lower", values={})
      >>> page = {"rows": [], "curves": [], "settings": {}}
      >>> page = enter(page, "a", Found([row]), {"seed": 0})
      >>> page = enter(page, "a", Found([row]), {"seed": 1})
      >>> len(page["rows"]), page["settings"]
      (1, {'a': {'seed': 1}})

    """
    kept = {key: [x for x in page[key] if x["attack"] != attack] for key in ("rows", "curves")}
    return {
        "rows": [*kept["rows"], *map(asdict, found.rows)],
        "curves": [*kept["curves"], *map(asdict, found.curves)],
        "settings": {**page["settings"], attack: dict(settings)},
    }


def number_text(value: float | None) -> str:
    """A number of an attack as it is shown; None is what did not happen.

    Example:
      >>> number_text(0.5), number_text(18), number_text(None)
      ('0.500', '18', 'never')

    """
    if value is None:
        return "never"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def show_page(console: Console, title: str, page: Page, attacks: Sequence[str]) -> None:
    """Prints the numbers of some attacks as one table, and each curve as another."""
    rows = [row for name in attacks for row in page["rows"] if row["attack"] == name]
    columns = list(dict.fromkeys(name for row in rows for name in row["values"]))
    cells = [
        [
            *(row[key] for key in ("attack", "setting", "title", "wanted")),
            *(number_text(row["values"].get(name)) for name in columns),
        ]
        for row in rows
    ]
    if rows:
        console.table(title, ["attack", "setting", "number", "wanted", *columns], cells)
    for curve in page["curves"]:
        if curve["attack"] in attacks:
            _show_curve(console, curve)


def _show_curve(console: Console, curve: Mapping[str, Any]) -> None:
    lines = curve["lines"]
    places = [x for x, _ in next(iter(lines.values()))]
    last = len(places) - 1
    count = min(_POINTS, len(places))
    some = [k * last // max(1, count - 1) for k in range(count)]
    heads = [curve["x"], *(str(places[k]) for k in some)]
    cells = [[name, *(number_text(points[k][1]) for k in some)] for name, points in lines.items()]
    console.table(f"{curve['attack']}: {curve['y']}, {curve['title']}", heads, cells)
