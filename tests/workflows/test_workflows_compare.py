# SPDX-License-Identifier: Apache-2.0
"""Several runs in one table: what is one column, what it is called, mean and deviation."""

import json
import math
import statistics

import numpy as np
import pytest
from scipy.stats import t

from unilogit_jax.cli import main
from unilogit_jax.config import dump_config, load_config
from unilogit_jax.errors import CheckpointError
from unilogit_jax.evaluation import Evaluation, Item
from unilogit_jax.run import Console, RunFolder
from unilogit_jax.workflows import compare
from unilogit_jax.workflows._stored import write_evaluation


@pytest.fixture
def made(tmp_path):
    """A function that makes a finished run with one number in each column."""

    def make(name, value, *overrides, **columns):
        experiment = load_config("toy", f"name={name}", *overrides)
        run = RunFolder.create(tmp_path, name, config_yaml=dump_config(experiment))
        numbers = {"before": 1.0, "after": value, "gold": 0.1} | columns
        flat = {f"{column}.forget_probability": x for column, x in numbers.items()}
        run.summary.write_text(json.dumps({"seed": 3, "passed": True, "seconds.x": 1} | flat))
        return run.path

    return make


def test_runs_that_differ_by_the_seed_alone_are_one_column(made):
    values = 0.2, 0.5, 0.8
    # What is measured besides says nothing of the model either.
    more = "false", "true", "false"
    runs = [
        made(f"r{k}", x, f"output.seed={k}", f"data.seed={k}", f"eval.grad_norm={also}")
        for k, (x, also) in enumerate(zip(values, more, strict=True))
    ]
    found = compare(runs, console=Console(quiet=True))
    assert list(found) == ["before", "unilogit", "gold"]
    spread = found["unilogit"]["forget_probability"]
    assert (spread.mean, spread.deviation) == (0.5, pytest.approx(statistics.stdev(values)))
    assert spread.runs == 3 and str(spread) == "0.500 ± 0.300"
    half = t.ppf(0.975, 2) * statistics.stdev(values) / math.sqrt(3)
    assert spread.interval[1:] == pytest.approx((0.5 - half, 0.5 + half), rel=1e-12)


def test_columns_are_called_by_what_sets_them_apart(made):
    runs = [
        made("a", 0.1, "unlearn.learning_rate=0.01"),
        made("b", 0.2, "unlearn.learning_rate=0.02", npo=0.7),
        made("c", 0.3, "unlearn.learning_rate=0.01", "method.name=npo"),
        made("d", 0.4, "unlearn.learning_rate=0.01", "method.name=npo", "method.beta=2"),
    ]
    found = {k: v["forget_probability"].mean for k, v in compare(runs).items()}
    assert found == {
        "before": 1.0,
        "unilogit learning_rate=0.01": 0.1,
        "unilogit learning_rate=0.02": 0.2,
        "npo learning_rate=0.02": 0.7,
        "npo beta=0.1 learning_rate=0.01": 0.3,
        "npo beta=2.0 learning_rate=0.01": 0.4,
        "gold": 0.1,
    }


def test_columns_call_values_what_files_and_overrides_call_them(made):
    runs = [
        made("a", 0.1, "unlearn.steps=null", "method.select=true"),
        made("b", 0.2, "unlearn.steps=9", "method.select=false"),
    ]
    names = ["before", "unilogit select=true steps=null", "unilogit select=false steps=9", "gold"]
    assert list(compare(runs)) == names


def test_the_table_says_how_many_runs_there_are(made, capsys):
    runs = [str(made(f"r{k}", 0.5, f"output.seed={k}")) for k in range(2)]
    assert main(["compare", *runs]) == 0
    shown = capsys.readouterr().out
    assert "unilogit (2)" in shown and "0.500 ± 0.000" in shown


def test_an_unfinished_run_is_named(made, tmp_path):
    path = made("r", 0.5)
    (path / "summary.json").unlink()
    with pytest.raises(CheckpointError, match=r"no summary\.json: its status is 'running'"):
        compare([path])


def shown(capsys, runs):
    assert main(["compare", *map(str, runs)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(("values", "noise"), [((0.3, 0.5), True), ((0.9, 0.91), False)])
def test_of_several_seeds_a_difference_within_their_spread_is_marked(made, capsys, values, noise):
    seeds = ((0.3, "unilogit"), (0.34, "unilogit"), *((x, "npo") for x in values))
    runs = [
        made(f"r{k}", x, f"method.name={name}", f"output.seed={k % 2}")
        for k, (x, name) in enumerate(seeds)
    ]
    text = shown(capsys, runs)
    mean = f"{sum(values) / 2:.3f} ± {statistics.stdev(values):.3f}"
    assert (f"{mean} ≈" in text) is noise
    assert "over seeds" in text and ("≈ the difference from unilogit" in text) is noise


def with_items(run, values, *, asked="Q"):
    """Gives a run the items that its model after unlearning was measured on."""
    items = [
        Item("forget", f"{asked}{k}", "A", "A", -math.log(x), None, (), False, 0.0, False)
        for k, x in enumerate(values)
    ]
    write_evaluation(run / "eval/after.json", Evaluation(tuple(items), math.nan), {})
    return run


@pytest.mark.parametrize(("step", "noise"), [(0.0, True), (0.1, False)])
def test_of_one_run_each_a_difference_within_the_items_is_marked(made, capsys, rng, step, noise):
    hard = rng.uniform(0.2, 0.7, 50)  # alike for both: apart, the means would be noise
    other = hard + step + rng.normal(0, 0.01, 50)
    other -= (other - hard - step).mean()
    one = with_items(made("a", hard.mean()), hard)
    two = with_items(made("b", other.mean(), "method.name=npo"), other)
    text = shown(capsys, [one, two])
    assert (f"{other.mean():.3f} ≈" in text) is noise
    assert ("No difference from unilogit is within noise" in text) is not noise
    assert "paired bootstrap over items" in text


@pytest.mark.parametrize("case", ["other items", "no items", "two against one"])
def test_what_cannot_be_compared_is_not_marked_and_said(made, capsys, case):
    one, two = made("a", 0.5), made("b", 0.5, "method.name=npo")
    runs = [one, two]
    if case == "other items":
        with_items(one, np.full(3, 0.5)), with_items(two, np.full(3, 0.5), asked="other")
    elif case == "two against one":
        for run in runs:
            with_items(run, np.full(3, 0.5))
        runs.append(made("c", 0.5, "method.name=npo", "output.seed=1"))
    text = shown(capsys, runs)
    assert "≈" not in text and "is not known for npo" in text and "No difference" not in text


def test_what_is_known_of_some_methods_is_not_said_of_all(made, capsys):
    runs = [
        with_items(made("a", 0.5), np.full(3, 0.5)),
        with_items(made("b", 0.6, "method.name=npo"), np.full(3, 0.6)),
    ]
    runs += [made(f"c{k}", 0.5, "method.name=undial", f"output.seed={k}") for k in range(2)]
    text = shown(capsys, runs)
    assert "No difference from unilogit is within noise" in text
    assert "is not known for undial:" in text


def test_a_single_method_is_compared_with_nothing(made, capsys):
    text = shown(capsys, [made("a", 0.5)])
    assert "noise" not in text and "≈" not in text
