# SPDX-License-Identifier: Apache-2.0
"""Attacks on one small run: every number of every column, resuming, refusals."""

import importlib
import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from unilogit_jax import models, workflows
from unilogit_jax.cli import main
from unilogit_jax.cli._parser import Parser
from unilogit_jax.cli.attack import add_arguments
from unilogit_jax.config import load_config
from unilogit_jax.data import finetune_batches
from unilogit_jax.errors import CheckpointError, ConfigError
from unilogit_jax.methods import Finetune
from unilogit_jax.run import Console
from unilogit_jax.sharding import put_batch
from unilogit_jax.train import init_state, make_optimizer, make_step
from unilogit_jax.workflows._attacks import ATTACKS
from unilogit_jax.workflows._bench import Bench, Options
from unilogit_jax.workflows._prepare import prepare
from unilogit_jax.workflows._relearn import _Course, _lesson, _numbers, _Point
from unilogit_jax.workflows._runs import open_run
from unilogit_jax.workflows.evaluate import columns_of

module = importlib.import_module("unilogit_jax.workflows.attack")
pytestmark = pytest.mark.slow
QUIET = Console(quiet=True)
COLUMNS = ["before", "after", "gold"]
FAST = {"updates": 4, "rows": 8, "samples": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory, overrides):
    """A run with gold, and what all attacks find."""
    words = ("eval.gold=true", "data.max_length=160")
    experiment = load_config("toy", *overrides, *words)
    place = tmp_path_factory.mktemp("attack") / "run"
    workflows.unlearn(experiment, out=place, console=QUIET)
    page = workflows.attack(place, console=QUIET, relearn_on=("forget", "retain"), **FAST)
    return place, page


@pytest.fixture(scope="module")
def bench(run):
    folder, experiment = open_run(run[0])
    prepared = prepare(experiment, folder)
    columns = {name: params for name, (_, params) in columns_of(folder, prepared, None).items()}
    return Bench(prepared, columns, Options(rows=8, updates=4), QUIET)


def values(page, **wanted):
    rows = [row for row in page["rows"] if all(row[key] == x for key, x in wanted.items())]
    assert len(rows) == 1, f"{wanted}: {len(rows)} rows"
    return rows[0]["values"]


def test_every_attack_has_numbers_of_every_column(run):
    place, page = run
    assert page == json.loads((place / "attack.json").read_text())
    assert set(page) == {"rows", "curves", "settings"} and list(page["settings"]) == list(ATTACKS)
    assert {row["attack"] for row in page["rows"]} == set(ATTACKS)
    for row in page["rows"]:
        assert list(row) == ["attack", "setting", "number", "title", "wanted", "values"]
        assert list(row["values"]) == COLUMNS and row["wanted"] in ("like gold", "lower", "higher")
        if row["number"] != "updates_to_half":
            assert all(0 <= x <= 1 for x in row["values"].values()), row
    curves = [(c["attack"], c["x"]) for c in page["curves"]]
    assert curves == [("relearn", "updates")] * 2 + [("lens", "layer")]
    assert all(list(curve["lines"]) == COLUMNS for curve in page["curves"])


def test_what_is_not_attacked_is_what_the_run_measured(run):
    place, page = run
    summary = json.loads((place / "summary.json").read_text())
    for attack, setting in (
        ("quantize", "as it is"),
        ("prompts", "asked as it is"),
        ("paraphrase", "in other words"),
    ):
        for number in ("forget_probability", "forget_rouge_l", "forget_exact_match"):
            found = values(page, attack=attack, setting=setting, number=number)
            for column in COLUMNS:
                assert found[column] == pytest.approx(summary[f"{column}.{number}"], rel=1e-5)
    (lens,) = [curve for curve in page["curves"] if curve["attack"] == "lens"]
    for column in COLUMNS:
        last = lens["lines"][column][-1]
        assert last == [1, pytest.approx(summary[f"{column}.forget_probability"], rel=1e-5)]


def test_rounding_changes_little_in_eight_bits_and_more_in_four(run):
    _, page = run
    name = {"attack": "quantize", "number": "forget_probability"}
    exact, fine, coarse = (
        np.array(list(values(page, setting=setting, **name).values()))
        for setting in ("as it is", "int8, per output channel", "int4, groups of 64")
    )
    assert 0 < np.abs(fine - exact).max() < np.abs(coarse - exact).max() < 0.2


def test_relearning_teaches_and_a_curve_begins_with_the_model_as_it_is(run, bench):
    _, page = run
    forget, retain = (c["lines"] for c in page["curves"] if c["attack"] == "relearn")
    for lines in (forget, retain):
        assert all([x for x, _ in line] == [0, 2, 4] for line in lines.values())
    lesson = _lesson(bench, "forget")
    scores = bench.score(bench.columns["after"], lesson.asked)
    start = float(np.exp(-scores.nll).mean())
    assert forget["after"][0][1] == pytest.approx(start, rel=1e-5)
    assert forget["after"][-1][1] > start, "related rows teach the words of all answers"
    setting = "8 forget rows, 4 updates"
    ends = values(page, setting=setting, number="end_probability")
    assert ends == {column: line[-1][1] for column, line in forget.items()}


def test_numbers_of_relearning_are_those_of_the_curves():
    found = {
        "before": [_Point(0, 0.8, 1.0), _Point(2, 0.6, 0.5)],
        "after": [_Point(0, 0.1, 0.0), _Point(2, 0.4, 0.2)],
        "gold": [_Point(0, 0.3, 0.0), _Point(2, 0.2, 0.1)],
    }
    assert _numbers(found) == {
        "highest_probability": {"before": 0.8, "after": 0.4, "gold": 0.3},
        "end_probability": {"before": 0.6, "after": 0.4, "gold": 0.2},
        "end_exact_match": {"before": 0.5, "after": 0.2, "gold": 0.1},
        "updates_to_half": {"before": 0, "after": 2, "gold": None},
    }
    assert "updates_to_half" not in _numbers({"after": found["after"]})


def test_no_answer_that_is_taught_is_asked(bench):
    unlimited = bench.prepared.experiment.eval.model_copy(update={"max_items": None})
    experiment = bench.prepared.experiment.model_copy(update={"eval": unlimited})
    whole = replace(bench, prepared=replace(bench.prepared, experiment=experiment))
    lesson = _lesson(whole, "forget")
    taught, asked, every = (
        {row[row >= 0].tobytes() for row in rows.labels}
        for rows in (lesson.taught, lesson.asked, bench.prepared.forget)
    )
    assert len(lesson.taught) == 8 and not taught & asked
    assert taught | asked == every, "all others are asked"
    other = _lesson(replace(whole, options=Options(rows=8, seed=1)), "forget")
    assert not np.array_equal(other.taught.tokens, lesson.taught.tokens)


def test_relearning_is_plain_training_on_these_rows(bench):
    prepared, params, ends = bench.prepared, bench.columns["after"], []
    lesson, before = _lesson(bench, "forget"), jax.device_get(params)
    spied = replace(bench, options=Options(rows=8, updates=2))

    def score(params, rows):
        ends.append(jax.device_get(params))
        return bench.score(params, rows)

    vars(spied)["score"] = score
    _Course(spied, lesson)(params, lambda *args, **numbers: None)
    rate = prepared.experiment.unlearn.learning_rate
    optimizer = make_optimizer(
        2, learning_rate=rate, schedule="constant", warmup=0.0, weight_decay=0.0, clip=1.0
    )
    axes = models.logical_axes(prepared.model)
    state, shardings = init_state(params, optimizer, axes=axes, mesh=prepared.mesh)
    apply = models.apply_fn(prepared.model)
    step = make_step(Finetune(), apply, optimizer, prepared.mesh, shardings=shardings)
    batches = finetune_batches(lesson.taught, batch_size=8, seed=0)
    for i in range(2):
        state, _ = step(state, put_batch(batches(i), prepared.mesh))
    wanted = jax.device_get(state.params)
    for x, y, start in zip(*map(jax.tree.leaves, (ends[1], wanted, before)), strict=True):
        # The rows come in another order, and Adam's steps are the rate whatever the gradient.
        np.testing.assert_allclose(x, y, atol=rate * 0.1)
        assert np.abs(x - start).max() <= 2.01 * rate
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(params), before)


def test_attacks_that_are_there_are_not_made_again(run, monkeypatch):
    place, page = run
    made = []
    monkeypatch.setattr(module, "_bench", made.append)
    again = workflows.attack(place, console=QUIET, relearn_on=("forget", "retain"), **FAST)
    assert again == page and made == []
    monkeypatch.undo()
    spied = ATTACKS["sample"].run

    def spy(bench):
        made.append("sample")
        return spied(bench)

    monkeypatch.setitem(ATTACKS, "sample", ATTACKS["sample"]._replace(run=spy))
    other = place.parent / "other.json"
    other.write_text((place / "attack.json").read_text())
    options = {"only": ["sample"], "out": other, "console": QUIET}
    workflows.attack(place, **options, samples=2)
    assert made == []
    workflows.attack(place, **options, samples=2, again=True)
    found = workflows.attack(place, **options, samples=3)
    assert made == ["sample"] * 2
    rest = [[row for row in p["rows"] if row["attack"] != "sample"] for p in (page, found)]
    assert rest[0] == rest[1] and len(found["rows"]) == len(page["rows"])
    assert found["settings"]["sample"]["samples"] == 3


def test_adapters_and_overrides_of_the_command_line(run, capsys, monkeypatch):
    place, _ = run
    plain, own = _Course._start, []

    def start(self, program):
        state = plain(self, program)
        own.append(self._step.frozen is program.weights.frozen)
        return state

    monkeypatch.setattr(_Course, "_start", start)
    out = place.parent / "lora.json"
    words = ["--only", "relearn", "lens", "--rows", "8", "--updates", "2", "--out", str(out)]
    lora = "lora={rank: 2, alpha: 4, targets: [q_proj, down_proj]}"
    assert main(["attack", str(place), lora, "eval.max_items=3", *words]) == 0
    shown = capsys.readouterr().out
    assert "what comes back" in shown and "updates until half" in shown and "never" in shown
    page = json.loads(out.read_text())
    assert list(page["settings"]) == ["relearn", "lens"]
    assert page["settings"]["relearn"]["overrides"] == [lora, "eval.max_items=3"]
    assert own == [True] * 3, "each model's adapters stand beside its own weights"
    curve, _ = page["curves"]
    assert all(line[0][1] != line[-1][1] for line in curve["lines"].values())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"only": ["relern"]}, "Did you mean 'relearn'"),
        ({"updates": 0}, "updates must be larger than 0"),
        ({"temprature": 1.0}, "Did you mean 'temperature'"),
        ({"relearn_on": ("forgot",)}, "forget or retain, got 'forgot'"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"rows": 10**6, "only": ["relearn"]}, "there are only 128 forget rows"),
        ({"rows": 128, "only": ["relearn"]}, "none is left to ask"),
    ],
)
def test_what_cannot_be_done_is_said(run, options, said):
    with pytest.raises(ConfigError, match=said):
        workflows.attack(run[0], console=QUIET, **options)


def test_a_run_without_an_unlearned_model_is_refused(run, tmp_path):
    place, _ = run
    (tmp_path / "config.yaml").write_text((place / "config.yaml").read_text())
    with pytest.raises(CheckpointError, match="has no unlearned model"):
        workflows.attack(tmp_path, console=QUIET)
    (tmp_path / "other.json").write_text('{"forget": 1}')
    with pytest.raises(CheckpointError, match="is no record of attacks"):
        workflows.attack(place, out=tmp_path / "other.json", console=QUIET)
    status = (place / "status").read_text()
    (place / "status").write_text("running\n")
    with pytest.raises(CheckpointError, match="is not finished"):
        workflows.attack(place, console=QUIET)
    (place / "status").write_text(status)


def test_the_help_names_every_attack():
    parser = Parser(prog="unilogit attack", description="")
    add_arguments(parser)
    assert f"some of {', '.join(ATTACKS)}" in " ".join(parser.format_help().split())
