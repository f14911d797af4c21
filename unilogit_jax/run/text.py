# SPDX-License-Identifier: Apache-2.0
"""Numbers, times and tables as plain text for the console and the log."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from unilogit_jax.errors import clean

WANTED = {
    "lower": "↓ lower is better",
    "higher": "↑ higher is better",
    "like gold": "≈ like gold is best",
}
"""Which way of a number is good -> how a page and a picture say it."""

_NUMERIC = re.compile(r"[-+±<≤>≥~]?\s*[\d.,]+(e[-+]?\d+)?\s*(%|±.*|[a-zA-Z]{1,2})?|n/a|nan|[-–—]?")


def format_number(value: Any) -> str:
    """A number with four significant digits; thousands as k.

    Example:
      >>> [format_number(x) for x in (0.41237, 1e-5, 18431.0, 92)]
      ['0.4124', '1e-05', '18.4k', '92']

    """
    if isinstance(value, int):
        return str(value)
    number = float(value)
    return f"{number / 1000:.1f}k" if 1e4 <= abs(number) < 1e7 else f"{number:.4g}"


def format_numbers(numbers: Mapping[str, Any]) -> str:
    """Named numbers on one line; underscores in names become spaces, `_per_` a slash.

    Example:
      >>> format_numbers({"forget_nll": 3.91, "tok_per_s": 18400.0})
      'forget nll 3.91  tok/s 18.4k'

    """
    return "  ".join(
        f"{name.replace('_per_', '/').replace('_', ' ')} {format_number(value)}"
        for name, value in numbers.items()
    )


def format_seconds(seconds: float) -> str:
    """A duration for people.

    Example:
      >>> [format_seconds(s) for s in (0.31, 14.2, 100.0, 3725.0)]
      ['0.3 s', '14.2 s', '1 min 40 s', '1 h 02 min']

    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def right_aligned(rows: Sequence[Sequence[str]], column: int) -> bool:
    """Whether a column holds numbers only, so that they should line up at the right.

    Example:
      >>> [right_aligned([["loss", "0.1"], ["nll", "n/a"]], c) for c in (0, 1)]
      [False, True]

    """
    cells = [row[column].strip() for row in rows]
    return any(cells) and all(_NUMERIC.fullmatch(cell) for cell in cells)


def plain_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as aligned lines of text.

    Args:
      title: the line above; may be empty.
      columns: the headings.
      rows: one text per heading; line breaks become spaces.

    Returns:
      Lines joined by line breaks, without trailing spaces.

    Raises:
      ValueError: a row has more or fewer cells than there are headings.

    Example:
      >>> print(plain_table("Results", ["metric", "after"], [["loss", "0.10"], ["n", "3"]]))
      Results
      metric  after
      ------  -----
      loss     0.10
      n           3

    """
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"table {title!r}: {len(columns)} columns, but a row {list(row)!r}")
    cells = [[" ".join(clean(cell).split()) for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    right = [right_aligned(cells[1:], i) for i in range(len(columns))]
    rule = ["-" * width for width in widths]
    lines = [title] if title else []
    for row in (cells[0], rule, *cells[1:]):
        pads = zip(row, widths, right, strict=True)
        lines.append("  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in pads).rstrip())
    return "\n".join(lines)
