# SPDX-License-Identifier: Apache-2.0
"""Names in pictures: taken literally, and placed to cover no point and no other name."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

_SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))


def literal(text: str) -> str:
    r"""A text as it is: `$` would begin a formula, a leading underscore hides from the legend.

    Example:
      >>> literal("$cost")
      '\\$cost'

    """
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def label_points(figure: Any, axes: Any, points: Mapping[str, tuple[float, float]]) -> None:
    """Names beside the points, each where it covers nothing: near, or further off with a line.

    Args:
      figure: a matplotlib figure whose axes have their final limits.
      axes: the axes that show the points.
      points: name -> place in data coordinates.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    dots = [axes.transData.transform(point) for point in points.values()]
    taken = [Bbox.from_bounds(x - 11, y - 11, 22, 22) for x, y in dots]
    for own, (name, point) in zip(list(taken), points.items(), strict=True):
        best: tuple[float, Any, Any] | None = None
        for distance, (dx, dy) in product((9, 26, 46, 66), _SIDES):
            text = axes.annotate(
                literal(name),
                point,
                xytext=(dx * distance, dy * distance),
                textcoords="offset points",
                ha=("right", "center", "left")[dx + 1],
                va=("top", "center", "bottom")[dy + 1],
                fontsize=9,
                color="#222222",
                arrowprops={"arrowstyle": "-", "color": "#999999", "lw": 0.7, "shrinkB": 5}
                if distance > 9
                else None,
            )
            text.set_in_layout(False)
            # An annotation's own extent would count its line too.
            text.update_positions(canvas.get_renderer())
            box = Text.get_window_extent(text)
            cost = _covered(box, taken) + 2 * (box.width * box.height - _covered(box, [axes.bbox]))
            ends = (
                axes.transData.transform(point),
                (box.x0 + box.width / 2, box.y0 + box.height / 2),
            )
            cost += 500 * _crossed(*ends, [other for other in taken if other is not own])
            if best is None or cost < best[0] - 1:
                if best is not None:
                    best[1].remove()
                best = (cost, text, box)
            else:
                text.remove()
            if best[0] < 1:
                break
        if best is not None:
            taken.append(best[2])


def _crossed(start: Any, end: Any, others: Sequence[Any]) -> int:
    """How many of the others the straight line between two places runs through."""
    places = [
        (start[0] + t / 20 * (end[0] - start[0]), start[1] + t / 20 * (end[1] - start[1]))
        for t in range(21)
    ]
    return sum(any(other.contains(*place) for place in places) for other in others)


def _covered(box: Any, others: Sequence[Any]) -> float:
    """Area of the box that the others cover, in square pixels."""
    shared = (type(box).intersection(box, other) for other in others)
    return sum((common.width * common.height for common in shared if common is not None), 0.0)
