# SPDX-License-Identifier: Apache-2.0
"""Several runs in one table: what is one column, what it is called, mean and deviation."""

import json
import statistics

import pytest

from unilogit_jax.cli import main
from unilogit_jax.config import dump_config, load_config
from unilogit_jax.errors import CheckpointError
from unilogit_jax.run import Console, RunFolder
from unilogit_jax.workflows import compare


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
