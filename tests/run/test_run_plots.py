# SPDX-License-Identifier: Apache-2.0
"""The pictures: valid PNGs of a sensible size for ordinary and for odd numbers."""

import math
import struct
import warnings
import zlib

import numpy as np
import pytest

from unilogit_jax.run import (
    plot_bars,
    plot_curves,
    plot_items,
    plot_robustness,
    plot_tradeoff,
    plot_truth_ratios,
)
from unilogit_jax.run.canvas import limits
from unilogit_jax.run.labels import label_points


def png_size(path):
    """Width and height, after a check of every chunk's CRC."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, kinds = 8, []
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        body = data[at + 4 : at + 8 + length]
        kinds.append(body[:4])
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(body)
        at += 12 + length
    assert kinds[-1] == b"IEND"
    return struct.unpack(">II", data[16:24])


def assert_sensible(path):
    width, height = png_size(path)
    assert 600 <= width <= 2000
    assert 250 <= height <= 3000
    assert path.stat().st_size < 400_000


def test_bars_of_three_states(tmp_path):
    metrics = {
        "forget probability": {"before": 0.98, "after": 0.0001, "gold": 0.01},
        "retain accuracy": {"before": 0.99, "after": math.nan},
    }
    plot_bars(
        tmp_path / "plots" / "bars.png",
        metrics,
        {"forget probability": "like gold", "retain accuracy": "higher"},
    )
    assert_sensible(tmp_path / "plots" / "bars.png")


def test_bars_of_many_methods_and_awkward_names(tmp_path):
    values = {name: 0.5 for name in ("before", "gold", "$a$", "_b", "c^{", "d", "e")}
    plot_bars(tmp_path / "bars.png", {"$x_{": values, "y": values}, {})
    assert_sensible(tmp_path / "bars.png")


def test_tradeoff_of_methods_that_lie_close_together(tmp_path):
    points = {f"method{i}": (0.02 + 0.005 * i, 0.97 + 0.002 * i) for i in range(6)}
    plot_tradeoff(tmp_path / "t.png", points, gold=(0.01, 0.99))
    assert_sensible(tmp_path / "t.png")


@pytest.mark.parametrize("points", [{}, {"before": (1.0, 1.0)}, {"$x$": (math.nan, 0.5)}])
def test_tradeoff_of_few_or_odd_points(tmp_path, points):
    plot_tradeoff(tmp_path / "t.png", points)
    assert_sensible(tmp_path / "t.png")


def test_names_of_near_points_do_not_cover_each_other():
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    figure = Figure(figsize=(6, 5))
    axes = figure.add_subplot()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    points = {f"method{i}": (0.5 + 0.03 * (i % 3), 0.5 + 0.022 * i) for i in range(7)}
    label_points(figure, axes, points)
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    assert len(boxes) == 7
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]


def test_curves_with_gaps_and_a_panel_per_stage(tmp_path):
    rows = [{"stage": "finetune", "step": i, "loss": None if i == 3 else 1 / i} for i in (1, 2, 3)]
    short, long = tmp_path / "short.png", tmp_path / "long.png"
    plot_curves(short, rows)
    rows += [
        {"stage": "unlearn", "step": i, "loss": 1.0, "forget_nll": 1.0 * i, "retain_nll": 0.1}
        for i in range(1, 50)
    ]
    plot_curves(long, rows)
    assert_sensible(short)
    assert_sensible(long)
    assert png_size(long)[1] > 1.8 * png_size(short)[1]


@pytest.mark.parametrize("rows", [[], [{"stage": "evaluate", "step": 0, "accuracy": 0.5}]])
def test_no_training_rows_give_a_picture_that_says_so(tmp_path, rows):
    plot_curves(tmp_path / "c.png", rows)
    assert_sensible(tmp_path / "c.png")


def test_items_before_and_after(tmp_path, rng):
    values = rng.uniform(0, 1, 40)
    broken = np.where(values < 0.1, np.nan, values)
    panels = {"forget": (values, broken * 0.1), "retain": (values, values)}
    plot_items(tmp_path / "i.png", panels)
    assert_sensible(tmp_path / "i.png")


@pytest.mark.parametrize("odd", [[0.0, 1e10], [math.nan, math.nan], [1.0]])
def test_truth_ratios_ordinary_and_odd(tmp_path, rng, odd):
    ratios = {"before": rng.uniform(0.1, 0.5, 20), "$a$": np.array(odd), "gold": np.ones(3)}
    plot_truth_ratios(tmp_path / "r.png", ratios)
    assert_sensible(tmp_path / "r.png")


def test_a_panel_for_each_curve_under_attack(tmp_path):
    curve = {"title": "$x_", "x": "updates", "y": "ROUGE"}
    lines = {"after": [(0, 0.1), (2, None), (4, 0.5)], "gold": [(0, 0.3)], "_b": []}
    one, three = tmp_path / "one.png", tmp_path / "three.png"
    plot_robustness(one, [curve | {"lines": lines}])
    plot_robustness(
        three, [curve | {"lines": lines}, curve | {"lines": {}}, curve | {"lines": lines}]
    )
    assert_sensible(one)
    assert_sensible(three)
    assert png_size(three)[1] > 2.8 * png_size(one)[1]


def test_plots_leave_matplotlib_as_it_was(tmp_path):
    import matplotlib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = dict(matplotlib.rcParams)
    plot_bars(tmp_path / "b.png", {"m": {"after": 0.5}}, {"m": "lower"})
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("values", [(-80.0, -20.0), (250.0, 410.0), (0.2, 1.3)])
def test_numbers_that_are_no_shares_are_inside_the_picture(values):
    low, high = limits(values)
    assert low < min(values) < max(values) < high


@pytest.mark.parametrize("values", [(0.0, 1.0), (0.98, 1.0), (0.0,)])
def test_shares_are_drawn_from_0_to_1_at_most(values):
    low, high = limits(values)
    assert -0.05 < low < min(values) <= max(values) < high < 1.05
