# SPDX-License-Identifier: Apache-2.0
"""What all pictures share: size and type that a phone can show, colours, axes, the PNG file."""

import io
import math
from collections.abc import Sequence
from typing import Any

from unilogit_jax.paths import AnyPath
from unilogit_jax.run.files import write_bytes

# Okabe and Ito's palette, told apart by colour-blind readers too; grey is always "before".
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#8A6D00", "#4B4B9B")
FIXED = {"before": "#9A9A9A", "gold": "#E6A700"}
INK, FAINT = "#222222", "#DDDDDD"
WIDTH = 5.2
"""Inches: on a phone, 350 pixels wide, type of ten points is then nine pixels high."""


def new_figure(height: float, *, width: float = WIDTH) -> Any:
    """An empty figure on white, which is legible on dark pages too."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def save_figure(figure: Any, path: AnyPath) -> None:
    """Writes a PNG, sharp on dense screens and the same for the same figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    picture = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(picture, format="png", dpi=170, metadata={"Software": None})
    write_bytes(path, picture.getvalue())


def tidy(axes: Any, *, grid: str) -> None:
    """Few lines, pale ones."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#888888")
    axes.tick_params(labelsize=9, color="#888888", labelcolor=INK)
    axes.grid(axis=grid, color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)


def title_of(axes: Any, text: str) -> None:
    """A heading at the left of some axes."""
    axes.set_title(text, fontsize=10, color=INK, loc="left", fontweight="bold")


def colours_of(columns: Sequence[str]) -> dict[str, str]:
    """A colour for every column, always the same for before and gold."""
    free = [column for column in columns if column not in FIXED]
    return FIXED | {column: COLOURS[i % len(COLOURS)] for i, column in enumerate(free)}


def finite(value: Any) -> float:
    """A number, or NaN for None and all that cannot be drawn."""
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else math.nan


def limits(values: Sequence[float]) -> tuple[float, float]:
    """The data with a margin, at least a quarter wide; shares stay inside 0..1."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = max(0.12 * (high - low), (0.25 - (high - low)) / 2)
    if low < 0 or high > 1:
        return low - margin, high + margin
    return max(-0.03, low - margin), min(1.03, high + margin)
