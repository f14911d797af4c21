# SPDX-License-Identifier: Apache-2.0
"""Many runs: the grid, what they share, the choice by a rule, stopped and gone on with."""

import importlib
import json

import jax
import numpy as np
import pytest

from unilogit_jax.cli import main
from unilogit_jax.config import load_config, read_config
from unilogit_jax.errors import ConfigError
from unilogit_jax.run import Console, RunFolder
from unilogit_jax.workflows import resume, sweep
from unilogit_jax.workflows._beside import measured, origin_of, start_key
from unilogit_jax.workflows._grid import combinations
from unilogit_jax.workflows._pick import Rule, front, pick
from unilogit_jax.workflows._prepare import prepare
from unilogit_jax.workflows._runs import load_stage, open_run
from unilogit_jax.workflows.evaluate import columns_of

KEPT, KNOWN, LIKELY = "retain_exact_match", "forget_exact_match", "forget_probability"


def test_every_combination_is_there_once_with_values_as_they_were_written():
    found = combinations(
        ["unlearn.learning_rate=1e-5,2e-5", "unlearn.trainable=[a, b],'*'"],
        ["method.name=npo method.beta=0.5", "method.name=unilogit"],
        [0, 1],
    )
    assert len(found) == 16 and len(set(found)) == 16
    assert found[0] == (
        "method.name=npo",
        "method.beta=0.5",
        "unlearn.learning_rate=1e-5",
        "unlearn.trainable=[a, b]",
        "output.seed=0",
    )
    assert found[-1][1:] == ("unlearn.learning_rate=2e-5", "unlearn.trainable='*'", "output.seed=1")


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"over": ["unlearn.steps"]}, "write KEY=VALUE"),
        ({"over": ["unlearn.steps=[1"]}, "write KEY=VALUE"),
        ({"over": ["unlearn.steps=1"]}, "two runs at least"),
        ({"over": ["output.seed=0,1"], "seeds": [0, 1]}, "output.seed is there twice"),
        ({"over": ["a=1,2", "a=3,4"]}, "a is there twice"),
    ],
)
def test_what_is_no_grid_is_refused(asked, message):
    with pytest.raises(ConfigError, match=message):
        combinations(**{"over": [], **asked})


RUNS = {
    "wild": {KEPT: 0.5, KNOWN: 0.0, LIKELY: 0.0},
    "good": {KEPT: 0.96, KNOWN: 0.1, LIKELY: 0.4},
    "near": {KEPT: 0.99, KNOWN: 0.1, LIKELY: 0.1},
    "weak": {KEPT: 1.0, KNOWN: 0.9, LIKELY: 0.8},
    "beaten": {KEPT: 0.95, KNOWN: 0.95, LIKELY: 0.9},
}
BEFORE, GOLD = {KEPT: 1.0, KNOWN: 1.0, LIKELY: 1.0}, {KEPT: 1.0, KNOWN: 0.0, LIKELY: 0.45}


def test_the_best_forgetting_under_the_floor_is_taken():
    lower, like_gold = Rule(KEPT, KNOWN), Rule(KEPT, LIKELY)
    assert pick(lower, RUNS, BEFORE, GOLD) == "near", "of equals the one that keeps more"
    assert pick(like_gold, RUNS, BEFORE, GOLD) == "good", "nearest to gold, not lowest"
    assert pick(like_gold, RUNS, BEFORE, None) == "near", "lowest, where there is no gold"
    assert pick(Rule(KEPT, KNOWN, floor=0.4), RUNS, BEFORE, GOLD) == "wild"
    hopeless = {name: RUNS[name] for name in ("wild",)}
    assert pick(lower, hopeless, BEFORE, GOLD) is None


def test_the_front_is_what_no_other_beats():
    assert front(Rule(KEPT, KNOWN), RUNS, GOLD) == ["wild", "near", "weak"]
    assert front(Rule(KEPT, LIKELY), RUNS, GOLD) == ["good", "near", "weak"]


def test_what_leaks_least_is_nearest_to_zero_on_either_side():
    leaks = {"memorised": -80.0, "right": 5.0, "conspicuous": 40.0}
    runs = {name: {KEPT: 1.0, "privleak": leak} for name, leak in leaks.items()}
    assert front(Rule(KEPT, "privleak"), runs, GOLD) == ["right"]
    assert pick(Rule(KEPT, "privleak"), runs, BEFORE, None) == "right"


@pytest.fixture(scope="module")
def swept(tmp_path_factory, overrides):
    """A sweep of two rates on the toy, stopped in the second run and gone on with."""
    folder = tmp_path_factory.mktemp("swept") / "sweep"
    patch = pytest.MonkeyPatch()
    stages, calls = importlib.import_module("unilogit_jax.workflows.unlearn"), []
    unlearn_stage, train_stage = stages.unlearn_stage, stages.train_stage

    def unlearn(prepared, *args, **options):
        calls.append("unlearn")
        if calls.count("unlearn") == 2:
            raise KeyboardInterrupt
        return unlearn_stage(prepared, *args, **options)

    def train(prepared, name, *args, **options):
        calls.append(name)
        return train_stage(prepared, name, *args, **options)

    patch.setattr(stages, "unlearn_stage", unlearn)
    patch.setattr(stages, "train_stage", train)
    words = ["sweep", "toy", *overrides, "--over", "unlearn.learning_rate=1e-6,1e-2"]
    # Hardly anything was learned in twelve updates, so that any share of it is kept.
    words += ["--utility", "retain_probability", "--floor", "0.001"]
    assert main([*words, "--out", str(folder)]) == 130
    assert main(["sweep", "--resume", str(folder)]) == 0
    patch.undo()
    return folder, calls


def test_runs_with_one_start_share_it(swept):
    _, calls = swept
    # Interrupted in the second run, which is done again; nothing is trained twice.
    assert calls.count("unlearn") == 3
    assert calls.count("target") == calls.count("gold") == 1


def test_a_sweep_says_which_setting_to_take(swept, capsys):
    folder, _ = swept
    told = json.loads((folder / "summary.json").read_text())
    settings = ["unilogit learning_rate=1e-06", "unilogit learning_rate=0.01"]
    assert told["taken"] in settings and told["taken"] in told["front"]
    assert told["rule"] == {"utility": "retain_probability", "forget": LIKELY, "floor": 0.001}
    gold = told[f"gold.{LIKELY}"]
    off = {name: abs(told[f"{name}.{LIKELY}"] - gold) for name in settings}
    assert told["taken"] == min(off, key=off.get)
    assert (folder / "front.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "status").read_text().strip() == "done"


def test_each_run_is_a_run_with_all_of_its_numbers(swept):
    folder, _ = swept
    first, second = (json.loads((folder / f"run-{n}/summary.json").read_text()) for n in (1, 2))
    for number in ("before.forget_probability", "gold.forget_ks_distance", "gold.retain_rouge_l"):
        assert first.get(number) == second.get(number), number
    assert first["after.forget_probability"] != second["after.forget_probability"]
    one, other = (load_config(folder / f"run-{n}/config.yaml") for n in (1, 2))
    assert one.compare == () and one.unlearn != other.unlearn
    assert start_key(one) == start_key(other)


def test_seeds_and_data_begin_with_models_of_their_own(overrides):
    keys = [
        start_key(read_config("toy", *overrides, word).experiment)
        for word in ("output.seed=0", "output.seed=1", "data.seed=1", "method.name=npo")
    ]
    assert len(set(keys)) == 3 and keys[0] == keys[3]


def test_evaluations_are_read_back_as_they_were(swept):
    folder, _ = swept
    again = measured(RunFolder.open(folder / "run-1"))
    assert list(again) == ["before", "gold"]
    stored = json.loads((folder / "run-1/eval/gold.json").read_text())["items"]
    assert json.loads(json.dumps(again["gold"].as_dicts())) == stored
    assert isinstance(again["gold"].items[0].wrong_nll, tuple)


def test_a_later_run_has_the_models_that_it_began_with(swept):
    folder, _ = swept
    run, experiment = open_run(folder / "run-2")
    found = columns_of(run, prepare(experiment, run), None)
    assert list(found) == ["before", "after", "gold"]
    for column, stage in (("before", "target"), ("gold", "gold")):
        wanted = load_stage(RunFolder(folder / "run-1"), stage, mesh=prepare(experiment, run).mesh)
        jax.tree.map(np.testing.assert_array_equal, found[column][1], wanted[1])
    (folder / "run-1").rename(folder / "gone")
    assert origin_of(run) is None
    (folder / "gone").rename(folder / "run-1")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"utility": "retain_exakt_match"}, "retain_exact_match"),
        ({"utility": "retain_malformed"}, "a floor keeps a number high, and of this one lower is"),
        ({"floor": 95.0}, "share of the utility"),
        ({"over": ["unlearn.stebs=1,2"]}, "Did you mean 'steps'"),
        ({"over": ["method.tau=ngram,own"]}, "own"),
    ],
)
def test_what_cannot_end_well_is_refused_before_anything_is_written(
    tmp_path, overrides, options, message
):
    options = {"over": ["unlearn.steps=1,2"], **options}
    with pytest.raises(ConfigError, match=message):
        sweep("toy", *overrides, out=tmp_path / "sweep", **options)
    assert not (tmp_path / "sweep").exists()


def test_a_run_inherits_nothing_from_the_one_before(tmp_path, overrides, monkeypatch):
    module, begun = importlib.import_module("unilogit_jax.workflows.sweep"), []

    def note(start, place, loaded, console, **options):
        begun.append(loaded.experiment)
        return RunFolder(place)

    monkeypatch.setattr(module, "run_at", note)
    monkeypatch.setattr(module, "spreads_of", lambda runs: {"before": {KEPT: 1.0, LIKELY: 1.0}})
    monkeypatch.setattr(module, "_tell", lambda *args: None)
    each = ["method.name=npo method.beta=0.5", "method.tau=0.01", "method.name=npo"]
    sweep("toy", *overrides, each=each, out=tmp_path / "sweep")
    methods = [experiment.method for experiment in begun]
    assert [method.name for method in methods] == ["npo", "unilogit", "npo"]
    assert methods[0].beta == 0.5 and methods[1].tau == 0.01 and methods[2].beta == 0.1
    assert not any(experiment.output.profile for experiment in begun)
    resume(tmp_path / "sweep", profile=True)
    assert [experiment.output.profile for experiment in begun[3:]] == [True] * 3


def test_what_an_override_of_all_runs_drops_is_told(tmp_path, overrides, monkeypatch):
    module = importlib.import_module("unilogit_jax.workflows.sweep")
    monkeypatch.setattr(module, "_serve", lambda folder, console: folder)
    console = Console(quiet=True)
    words = (*overrides, "method.name=npo")
    sweep("toy", *words, over=["method.beta=1,2"], out=tmp_path / "sweep", console=console)
    assert any("method unilogit -> npo; dropped" in text for text in console.warnings)


def test_a_sweep_is_gone_on_with_by_its_folder_alone(capsys):
    assert main(["sweep", "toy", "--resume", "somewhere"]) == 2
    assert "drop all else" in capsys.readouterr().err
    assert main(["sweep", "toy", "--seeds", "0,x"]) == 2
    assert "whole numbers" in capsys.readouterr().err
