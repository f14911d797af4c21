# SPDX-License-Identifier: Apache-2.0
"""Pictures of single items and of attacks: before against after, distributions, curves."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from unilogit_jax.paths import AnyPath
from unilogit_jax.run.canvas import (
    FAINT,
    INK,
    colours_of,
    finite,
    new_figure,
    save_figure,
    tidy,
    title_of,
)
from unilogit_jax.run.labels import literal

_LOWEST, _HIGHEST = 1e-4, 1e4
"""Truth ratios beyond are drawn here: their size says no more than that they are extreme."""

Curve = Mapping[str, Any]
"""A curve of attack.json: attack, title, x, y, and lines: column -> pairs of x and y."""


def plot_items(
    path: AnyPath, panels: Mapping[str, tuple[Collection[float], Collection[float]]]
) -> None:
    """Every item as a point, its probability before and after; a panel for each group.

    Args:
      path: the PNG to write.
      panels: group -> values before and after, of the same items in the same order; what is not
        finite is left out.
    """
    figure = new_figure(3.0)
    for i, (group, (before, after)) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), i + 1)
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2, zorder=1)
        colour = "#D55E00" if group.startswith("forget") else "#0072B2"
        axes.scatter(before, after, s=22, color=colour, alpha=0.45, linewidth=0, zorder=2)
        axes.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04))
        axes.set_xticks([0, 0.5, 1.0])
        axes.set_yticks([0, 0.5, 1.0])
        axes.set_aspect("equal")
        axes.set_xlabel("probability before")
        if i == 0:
            axes.set_ylabel("probability after")
        title_of(axes, f"{literal(group)} ({len(before)})")
        tidy(axes, grid="both")
    save_figure(figure, path)


def plot_truth_ratios(path: AnyPath, ratios: Mapping[str, Collection[float]]) -> None:
    """The share of forget items whose truth ratio is at most x, a step line for each model.

    Args:
      path: the PNG to write.
      ratios: column -> truth ratios; NaN is left out.
    """
    figure = new_figure(3.3)
    axes = figure.add_subplot()
    colours = colours_of(list(ratios))
    known = {
        column: sorted(min(max(x, _LOWEST), _HIGHEST) for x in values if not math.isnan(x))
        for column, values in ratios.items()
    }
    known = {column: values for column, values in known.items() if values}
    # Whole decades around the data, and around 1, where a model cannot tell.
    every = [0.2, 5.0, *(x for values in known.values() for x in values)]
    low = 10.0 ** math.floor(math.log10(min(every)))
    high = 10.0 ** math.ceil(math.log10(max(every)))
    for column, values in known.items():
        axes.step(
            [low, *values, high],
            [0, *((k + 1) / len(values) for k in range(len(values))), 1],
            where="post",
            color=colours[column],
            linestyle="--" if column == "gold" else "-",
            linewidth=2.4 if column == "gold" else 1.8,
            label=literal(column),
        )
    axes.axvline(1, color="#888888", linewidth=1, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("truth ratio    ← knows the answer    cannot tell (1) →")
    axes.set_ylabel("share of forget items")
    if known:
        axes.legend(fontsize=9, frameon=False, loc="upper left")
    tidy(axes, grid="both")
    save_figure(figure, path)


def plot_robustness(path: AnyPath, curves: Sequence[Curve]) -> None:
    """What attacks bring back, the stronger they get: a panel for each curve.

    Args:
      path: the PNG to write.
      curves: as attack.json has them; values that are None leave a gap.
    """
    figure = new_figure(2.5 * max(1, len(curves)))
    colours = colours_of(list(dict.fromkeys(name for c in curves for name in c["lines"])))
    for i, curve in enumerate(curves):
        axes = figure.add_subplot(len(curves), 1, i + 1)
        for name, points in curve["lines"].items():
            xs = [float(x) for x, _ in points]
            ys = [finite(y) for _, y in points]
            axes.plot(
                xs,
                ys,
                "--" if name == "gold" else "-",
                color=colours[name],
                marker="o",
                markersize=3.5,
                label=literal(name),
            )
        title_of(axes, literal(curve["title"]))
        axes.set_xlabel(literal(curve["x"]), color=INK)
        axes.xaxis.get_major_locator().set_params(integer=True)  # updates or layers
        axes.set_ylabel(literal(curve["y"]), color=INK)
        if curve["lines"]:
            axes.legend(fontsize=9, frameon=False)
        tidy(axes, grid="both")
    save_figure(figure, path)
