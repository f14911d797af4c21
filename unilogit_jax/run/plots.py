# SPDX-License-Identifier: Apache-2.0
"""The pictures of a report: metric bars, forget against retain, training curves; PNG files."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from unilogit_jax.paths import AnyPath
from unilogit_jax.run.canvas import (
    COLOURS,
    FAINT,
    FIXED,
    INK,
    colours_of,
    finite,
    limits,
    new_figure,
    save_figure,
    tidy,
    title_of,
)
from unilogit_jax.run.labels import label_points, literal
from unilogit_jax.run.text import WANTED

_MARKERS = "osD^vP*X"
_CURVES = {
    "loss": ("loss", "#0072B2", "-"),
    "forget_nll": ("forget NLL (should rise)", "#D55E00", "-"),
    "retain_nll": ("retain NLL (should stay low)", "#0072B2", "--"),
}


def plot_bars(
    path: AnyPath, metrics: Mapping[str, Mapping[str, float]], directions: Mapping[str, str]
) -> None:
    """Grouped bars: for each metric, one bar per model state.

    Args:
      path: the PNG to write.
      metrics: metric -> column ("before", "after", "gold", a method's name) -> value in 0..1; a
        missing or non-finite value is drawn as "n/a".
      directions: metric -> "lower", "higher" or "like gold"; shown under its name.
    """
    columns = list(dict.fromkeys(column for values in metrics.values() for column in values))
    colours = colours_of(columns)
    # A line of text above each group of bars: beside it, it would take half of a phone's width.
    lines = len(columns) + 1.9
    figure = new_figure(0.9 + 0.2 * lines * len(metrics))
    axes = figure.add_subplot()
    for i, column in enumerate(columns):
        places = [lines * row + 1.2 + i for row in range(len(metrics))]
        values = [finite(metric.get(column)) for metric in metrics.values()]
        axes.barh(
            places,
            values,
            height=0.86,
            color=colours[column],
            hatch="///" if column == "gold" else None,
            edgecolor="white",
            linewidth=0,
            label=literal(column),
        )
        for place, value in zip(places, values, strict=True):
            at = 0.0 if math.isnan(value) else min(max(value, 0.0), 1.0)
            axes.text(at + 0.012, place, _short(value), va="center", fontsize=9, color=INK)
    for row, name in enumerate(metrics):
        wanted = WANTED.get(directions.get(name, ""), "")
        axes.text(
            0, lines * row + 0.2, f"{literal(name)}   {wanted}".rstrip(), va="center", fontsize=10,
            color=INK,
        )  # fmt: skip
    axes.set_ylim(lines * len(metrics) - 0.3, -0.5)
    axes.set_yticks([])
    axes.set_xlim(0, 1.13)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
    axes.set_xlabel("value, from 0 to 1")
    tidy(axes, grid="x")
    if columns:
        # matplotlib fills legends column by column; people read them row by row.
        handles, labels = axes.get_legend_handles_labels()
        order = [i for start in range(4) for i in range(start, len(columns), 4)]
        figure.legend(
            [handles[i] for i in order],
            [labels[i] for i in order],
            loc="outside upper center",
            ncols=min(4, len(columns)),
            frameon=False,
            fontsize=9,
            columnspacing=1.2,
            handlelength=1.4,
        )
    save_figure(figure, path)


def plot_tradeoff(
    path: AnyPath,
    points: Mapping[str, tuple[float, float]],
    gold: tuple[float, float] | None = None,
) -> None:
    """Forgetting against keeping: the upper left is wanted, as near to gold as can be.

    Args:
      path: the PNG to write.
      points: name -> (forget probability, retain accuracy), both in 0..1; a point that is not
        finite is named in the picture's foot instead.
      gold: the same of the model that never saw the forget set.
    """
    named = {**points, "gold": gold} if gold is not None else dict(points)
    good = {k: (x, y) for k, (x, y) in named.items() if math.isfinite(x) and math.isfinite(y)}
    colours = colours_of(list(named))
    figure = new_figure(4.4)
    axes = figure.add_subplot()
    for i, (name, (x, y)) in enumerate(good.items()):
        is_gold = name == "gold"
        axes.scatter(
            x,
            y,
            s=220 if is_gold else 70,
            marker="*" if is_gold else _MARKERS[i % 6],
            color=colours[name],
            edgecolor=INK,
            linewidth=0.6,
            zorder=3,
        )
    axes.set_xlim(*limits([x for x, _ in good.values()]))
    axes.set_ylim(*limits([y for _, y in good.values()]))
    left_out = [name for name in named if name not in good]
    foot = "".join(f"\n{literal(name)}: not finite, not drawn" for name in left_out)
    axes.set_xlabel(f"← more forgotten    probability of the forget answers{foot}")
    axes.set_ylabel("accuracy on the retain set    better kept →")
    tidy(axes, grid="both")
    label_points(figure, axes, good)
    save_figure(figure, path)


def plot_front(
    path: AnyPath,
    points: Mapping[str, tuple[float, float]],
    *,
    front: Sequence[str],
    chosen: str | None,
    floor: float,
    titles: tuple[str, str],
) -> None:
    """What many settings forget and keep; those that no other beats are joined.

    Args:
      path: the PNG to write.
      points: short name -> (number of what was forgotten, utility); "before" and "gold" are marked.
      front: names of the settings that no other beats.
      chosen: the one that was taken, if any.
      floor: least utility that was asked for, drawn as a line.
      titles: of the two numbers.
    """
    good = {k: (x, y) for k, (x, y) in points.items() if math.isfinite(x) and math.isfinite(y)}
    figure = new_figure(5.4, width=7.0)
    axes = figure.add_subplot()
    joined = sorted(good[name] for name in front if name in good)
    axes.plot(*zip(*joined, strict=True), color=COLOURS[0], linewidth=1.2, zorder=2)
    for name, (x, y) in good.items():
        known = name in FIXED
        axes.scatter(
            x,
            y,
            s=220 if name in ("gold", chosen) else 60,
            marker="*" if name == "gold" else "D" if name == chosen else "o",
            color=FIXED[name] if known else COLOURS[0] if name in front else FAINT,
            edgecolor=INK,
            linewidth=0.6,
            zorder=3 if known or name in front else 2,
        )
    axes.axhline(floor, color=COLOURS[1], linestyle="--", linewidth=1)
    axes.set_xlim(*limits([x for x, _ in good.values()]))
    axes.set_ylim(*limits([*(y for _, y in good.values()), floor]))
    axes.set_xlabel(literal(titles[0]))
    axes.set_ylabel(f"{literal(titles[1])}      dashed: the least asked for")
    tidy(axes, grid="both")
    label_points(figure, axes, good)
    save_figure(figure, path)


def plot_curves(path: AnyPath, rows: Sequence[Mapping[str, Any]]) -> None:
    """Training curves, one panel per stage: forget and retain NLL where logged, else the loss.

    Args:
      path: the PNG to write.
      rows: lines of metrics.jsonl: "stage", "step" and any of "loss", "forget_nll", "retain_nll"
        (per token). Values that are None leave a gap.
    """
    stages: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for row in rows:
        both = [k for k in ("forget_nll", "retain_nll") if k in row]
        for key in both or (["loss"] if "loss" in row else []):
            curves = stages.setdefault(str(row.get("stage", "training")), {})
            curves.setdefault(key, []).append((int(row.get("step", 0)), finite(row[key])))
    across = 1 if len(stages) < 7 else 2
    down = max(1, math.ceil(len(stages) / across))
    figure = new_figure(2.1 * down)
    if not stages:
        figure.text(0.5, 0.5, "no training steps were logged", ha="center", color=INK)
    for i, (stage, curves) in enumerate(stages.items()):
        axes = figure.add_subplot(down, across, i + 1)
        for key, line in curves.items():
            label, colour, style = _CURVES[key]
            steps, values = zip(*sorted(line, key=lambda point: point[0]), strict=True)
            dots = "o" if len(steps) <= 20 else None
            axes.plot(steps, values, style, color=colour, label=label, marker=dots, markersize=3.5)
        title_of(axes, literal(stage))
        axes.set_xlabel("step")
        axes.set_ylabel("nats per token" if "loss" not in curves else "loss")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if "loss" not in curves:
            axes.legend(fontsize=8, frameon=False)
        tidy(axes, grid="y")
    save_figure(figure, path)


def _short(value: float) -> str:
    if math.isnan(value):
        return "n/a"
    return "<0.001" if 0 < value < 0.0005 else f"{value:.3f}"
