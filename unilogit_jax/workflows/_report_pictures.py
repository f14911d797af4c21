# SPDX-License-Identifier: Apache-2.0
"""The pictures of a report, drawn from what a run has measured and logged."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unilogit_jax.evaluation import MEANINGS, Evaluation, forget_truth_ratios
from unilogit_jax.run import (
    MetricsLog,
    Picture,
    RunFolder,
    plot_bars,
    plot_curves,
    plot_items,
    plot_robustness,
    plot_tradeoff,
    plot_truth_ratios,
)
from unilogit_jax.workflows._results import Summaries

BARS = (
    "forget_probability",
    "forget_rouge_l",
    "forget_choice",
    "forget_malformed",
    "retain_exact_match",
)
Values = Mapping[str, Mapping[str, np.ndarray]]


def draw_pictures(
    run: RunFolder,
    summaries: Summaries,
    evaluations: Mapping[str, Evaluation],
    values: Values,
    curves: Sequence[Mapping[str, Any]],
) -> list[Picture]:
    """Draws what there is something to draw of, into the run's plots.

    Args:
      run: the run.
      summaries: column -> numbers.
      evaluations: column -> items.
      values: column -> number -> items' values.
      curves: of attacks.

    """
    drawn = [
        _bars(run, summaries),
        _tradeoff(run, summaries),
        _items(run, evaluations, values),
        _ratios(run, evaluations),
        _robustness(run, curves),
        _training(run),
    ]
    return [picture for picture in drawn if picture is not None]


def _bars(run: RunFolder, summaries: Summaries) -> Picture | None:
    bars = {
        MEANINGS[key].title: {name: n[key] for name, n in summaries.items() if key in n}
        for key in BARS
        if any(key in n for n in summaries.values())
    }
    if not bars:
        return None
    path = run.plots / "bars.png"
    plot_bars(path, bars, {MEANINGS[key].title: MEANINGS[key].direction for key in BARS})
    alt = f"Bars of {', '.join(bars)} for {', '.join(summaries)}; the numbers are in the table."
    return Picture("Before and after", path, alt)


def _tradeoff(run: RunFolder, summaries: Summaries) -> Picture | None:
    points = {
        name: (n["forget_probability"], n["retain_exact_match"])
        for name, n in summaries.items()
        if "forget_probability" in n and "retain_exact_match" in n
    }
    if len(points) < 2:
        return None
    path = run.plots / "tradeoff.png"
    plot_tradeoff(path, {k: v for k, v in points.items() if k != "gold"}, points.get("gold"))
    places = "; ".join(f"{name} {x:.3f} and {y:.3f}" for name, (x, y) in points.items())
    return Picture(
        "Forgetting against keeping",
        path,
        f"Points of probability of the forget answers and accuracy on the retain set: {places}.",
    )


def _items(run: RunFolder, evaluations: Mapping[str, Evaluation], values: Values) -> Picture | None:
    sides = [evaluations.get(name) for name in ("before", "after")]
    if sides[0] is None or sides[1] is None or sides[0].asked() != sides[1].asked():
        return None
    panels = {
        group: (values["before"][key], values["after"][key])
        for group in ("forget", "retain")
        if (key := f"{group}_probability") in values["before"]
    }
    if not panels:
        return None
    path = run.plots / "items.png"
    plot_items(path, panels)
    fell = {group: int(np.sum(after < before)) for group, (before, after) in panels.items()}
    told = ", ".join(f"{fell[g]} of {len(panels[g][0])} {g} answers" for g in panels)
    return Picture(
        "Every answer before and after",
        path,
        f"A point for each true answer, its probability before and after unlearning: {told} became "
        "less likely, and lie below the diagonal.",
    )


def _ratios(run: RunFolder, evaluations: Mapping[str, Evaluation]) -> Picture | None:
    found = {name: forget_truth_ratios(e) for name, e in evaluations.items()}
    found = {name: ratios for name, ratios in found.items() if len(ratios)}
    if not found:
        return None
    path = run.plots / "truth_ratios.png"
    plot_truth_ratios(path, found)
    medians = ", ".join(f"{name} {np.median(ratios):.2g}" for name, ratios in found.items())
    return Picture(
        "Truth ratios of what was to be forgotten",
        path,
        f"Cumulative distributions of the forget items' truth ratios; medians: {medians}.",
    )


def _robustness(run: RunFolder, curves: Sequence[Mapping[str, Any]]) -> Picture | None:
    if not curves:
        return None
    path = run.plots / "robustness.png"
    plot_robustness(path, curves)
    titles = "; ".join(f"{c['title']}: {c['y']} over {c['x']}" for c in curves)
    return Picture("Under attack", path, f"Curves of {titles}.")


def _training(run: RunFolder) -> Picture:
    path, rows = run.plots / "curves.png", MetricsLog.read(run.metrics)
    plot_curves(path, rows)
    stages = ", ".join(dict.fromkeys(str(row.get("stage")) for row in rows)) or "none"
    return Picture("Training", path, f"Loss of forget and retain rows while training: {stages}.")
