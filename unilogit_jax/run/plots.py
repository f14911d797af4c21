# SPDX-License-Identifier: Apache-2.0
"""The pictures of a report: metric bars, forget against retain, training curves; PNG files."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from unilogit_jax.paths import AnyPath
from unilogit_jax.run.files import write_bytes
from unilogit_jax.run.labels import label_points, literal

# Okabe and Ito's palette, told apart by colour-blind readers too; grey is always "before".
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#8A6D00", "#4B4B9B")
_FIXED = {"before": "#9A9A9A", "gold": "#E6A700"}
_MARKERS = "osD^vP*X"
_INK, _FAINT = "#222222", "#DDDDDD"
_WANTED = {
    "lower": "↓ lower is better",
    "higher": "↑ higher is better",
    "like gold": "≈ like gold is best",
}
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
    colours = _colours(columns)
    thick = 0.8 / max(1, len(columns))
    figure = _figure(7.0, 1.3 + len(metrics) * (0.34 + 0.24 * len(columns)))
    axes = figure.add_subplot()
    for i, column in enumerate(columns):
        places = [row - 0.4 + thick * (i + 0.5) for row in range(len(metrics))]
        values = [_number(metric.get(column)) for metric in metrics.values()]
        axes.barh(
            places,
            values,
            height=thick * 0.88,
            color=colours[column],
            hatch="///" if column == "gold" else None,
            edgecolor="white",
            linewidth=0,
            label=literal(column),
        )
        for place, value in zip(places, values, strict=True):
            text = _short(value)
            at = 0.0 if math.isnan(value) else min(max(value, 0.0), 1.0)
            axes.text(at + 0.012, place, text, va="center", fontsize=8, color=_INK)
    wanted = {name: _WANTED.get(directions.get(name, ""), "") for name in metrics}
    labels = [f"{literal(name)}\n{wanted[name]}".rstrip() for name in metrics]
    axes.set_yticks(range(len(metrics)), labels=labels)
    axes.set_ylim(len(metrics) - 0.45, -0.55)
    axes.set_xlim(0, 1.1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
    axes.set_xlabel("value, from 0 to 1")
    _tidy(axes, grid="x")
    axes.tick_params(axis="y", length=0)
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
        )
    _save(figure, path)


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
    colours = _colours(list(named))
    figure = _figure(6.4, 5.0)
    axes = figure.add_subplot()
    for i, (name, (x, y)) in enumerate(good.items()):
        is_gold = name == "gold"
        axes.scatter(
            x,
            y,
            s=220 if is_gold else 70,
            marker="*" if is_gold else _MARKERS[i % 6],
            color=colours[name],
            edgecolor=_INK,
            linewidth=0.6,
            zorder=3,
        )
    axes.set_xlim(*_limits([x for x, _ in good.values()]))
    axes.set_ylim(*_limits([y for _, y in good.values()]))
    left_out = [name for name in named if name not in good]
    foot = "".join(f"\n{literal(name)}: not finite, not drawn" for name in left_out)
    axes.set_xlabel(f"← more forgotten      probability of the forget answers{foot}")
    axes.set_ylabel("accuracy on the retain set      better kept →")
    _tidy(axes, grid="both")
    label_points(figure, axes, good)
    _save(figure, path)


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
    figure = _figure(7.0, 5.4)
    axes = figure.add_subplot()
    joined = sorted(good[name] for name in front if name in good)
    axes.plot(*zip(*joined, strict=True), color=_COLOURS[0], linewidth=1.2, zorder=2)
    for name, (x, y) in good.items():
        known = name in _FIXED
        axes.scatter(
            x,
            y,
            s=220 if name in ("gold", chosen) else 60,
            marker="*" if name == "gold" else "D" if name == chosen else "o",
            color=_FIXED[name] if known else _COLOURS[0] if name in front else _FAINT,
            edgecolor=_INK,
            linewidth=0.6,
            zorder=3 if known or name in front else 2,
        )
    axes.axhline(floor, color=_COLOURS[1], linestyle="--", linewidth=1)
    axes.set_xlim(*_limits([x for x, _ in good.values()]))
    axes.set_ylim(*_limits([*(y for _, y in good.values()), floor]))
    axes.set_xlabel(literal(titles[0]))
    axes.set_ylabel(f"{titles[1]}      dashed: the least asked for")
    _tidy(axes, grid="both")
    label_points(figure, axes, good)
    _save(figure, path)


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
            curves.setdefault(key, []).append((int(row.get("step", 0)), _number(row[key])))
    across = 1 if len(stages) < 4 else 2
    down = max(1, math.ceil(len(stages) / across))
    figure = _figure(7.0, 2.4 * down)
    if not stages:
        figure.text(0.5, 0.5, "no training steps were logged", ha="center", color=_INK)
    for i, (stage, curves) in enumerate(stages.items()):
        axes = figure.add_subplot(down, across, i + 1)
        for key, line in curves.items():
            label, colour, style = _CURVES[key]
            steps, values = zip(*sorted(line, key=lambda point: point[0]), strict=True)
            dots = "o" if len(steps) <= 20 else None
            axes.plot(steps, values, style, color=colour, label=label, marker=dots, markersize=3.5)
        axes.set_title(literal(stage), fontsize=10, color=_INK, loc="left", fontweight="bold")
        axes.set_xlabel("step")
        axes.set_ylabel("nats per token" if "loss" not in curves else "loss")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if "loss" not in curves:
            axes.legend(fontsize=8, frameon=False)
        _tidy(axes, grid="y")
    _save(figure, path)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def _save(figure: Any, path: AnyPath) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    picture = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(picture, format="png", dpi=150, metadata={"Software": None})
    write_bytes(path, picture.getvalue())


def _tidy(axes: Any, *, grid: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#888888")
    axes.tick_params(labelsize=9, color="#888888", labelcolor=_INK)
    axes.grid(axis=grid, color=_FAINT, linewidth=0.7)
    axes.set_axisbelow(True)


def _colours(columns: Sequence[str]) -> dict[str, str]:
    free = [column for column in columns if column not in _FIXED]
    return _FIXED | {column: _COLOURS[i % len(_COLOURS)] for i, column in enumerate(free)}


def _number(value: Any) -> float:
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else math.nan


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """The data with a margin, at least a quarter wide, inside 0..1."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = max(0.12 * (high - low), (0.25 - (high - low)) / 2)
    return max(-0.03, low - margin), min(1.03, high + margin)


def _short(value: float) -> str:
    if math.isnan(value):
        return "n/a"
    return "<0.001" if 0 < value < 0.0005 else f"{value:.3f}"
