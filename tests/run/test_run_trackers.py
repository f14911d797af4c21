# SPDX-License-Identifier: Apache-2.0
"""Trackers: what they are told, what a resumed run does not tell again, and how they fail."""

import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest

from unilogit_jax import paths, workflows
from unilogit_jax.config import load_config
from unilogit_jax.config.schema import Output
from unilogit_jax.errors import ConfigError
from unilogit_jax.run import MetricsLog, trackers
from unilogit_jax.run.trackers import TRACKERS, Trackers, check_trackers


def track(folder, names, lines, *, summary=None, told=None):
    """Writes lines as a run does, tells them to trackers, and ends."""
    log, tracked = MetricsLog(folder / "metrics.jsonl"), Trackers()
    warn = told.append if told is not None else pytest.fail
    tracked.start(names, folder, {"name": "toy"}, warn=warn)
    for stage, step, numbers in lines:
        log.write(stage=stage, step=step, **numbers)
        tracked.log(stage=stage, step=step, **numbers)
    tracked.finish(summary or {}, done=summary is not None)


def on_the_board(folder):
    """Tag -> (step, value) of each point, as TensorBoard itself reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder / "tensorboard"))
    board.Reload()
    tags = board.Tags()["scalars"]
    return {tag: [(point.step, point.value) for point in board.Scalars(tag)] for tag in tags}


def test_tensorboard_shows_numbers_by_stage_and_update_and_the_summary(tmp_path):
    lines = [
        ("target", 1, {"loss": 0.5}),
        ("target", 2, {"loss": 0.25, "skipped": 1}),
        ("unlearn", 1, {"loss": float("nan"), "forget_nll": 2.0}),
    ]
    summary = {"name": "toy", "passed": True, "after.x": 0.5, "before.x": None}
    track(tmp_path, ["tensorboard"], lines, summary=summary)
    assert on_the_board(tmp_path) == {
        "target/loss": [(1, 0.5), (2, 0.25)],
        "target/skipped": [(2, 1.0)],
        "unlearn/forget_nll": [(1, 2.0)],
        "summary/passed": [(0, 1.0)],
        "summary/after.x": [(0, 0.5)],
    }


def test_a_point_is_there_as_soon_as_it_was_told(tmp_path):
    tracked = Trackers()
    tracked.start(["tensorboard"], tmp_path, {}, warn=pytest.fail)
    tracked.log(stage="unlearn", step=1, loss=0.5)
    assert on_the_board(tmp_path) == {"unlearn/loss": [(1, 0.5)]}, "what is killed lacks nothing"
    tracked.finish({}, done=False)


def test_a_resumed_run_goes_on_without_telling_anything_twice(tmp_path):
    def points(steps):
        return [("unlearn", step, {"loss": step / 8}) for step in steps]

    track(tmp_path, ["tensorboard"], [("target", 9, {"loss": 1.0}), *points((1, 2, 3))])
    # The checkpoint was that of update 1; an evaluation after update 3 had not been told yet.
    track(tmp_path, ["tensorboard"], [*points((2, 3)), ("unlearn", 3, {"u": 0.5}), *points((4,))])
    assert on_the_board(tmp_path) == {
        "target/loss": [(9, 1.0)],
        "unlearn/loss": [(step, step / 8) for step in (1, 2, 3, 4)],
        "unlearn/u": [(3, 0.5)],
    }


class FakeRun:
    """What runs offer, as far as it is used, and what they were told."""

    def __init__(self, told, made):
        self.told, self.made, self.summary, self.ended = told, made, {}, None

    def define_metric(self, name, *, step_metric=None, hidden=None):
        self.told.append((name, step_metric))

    def finish(self, exit_code=None):
        self.ended = exit_code


class FakeWandb:
    """wandb.init, Settings and a run's log without a step, which must not go back."""

    def __init__(self):
        self.runs, self.told = [], []

    def Settings(self, *, console, save_code):
        return SimpleNamespace(console=console, save_code=save_code)

    def init(self, *, project, name, id, resume, config, dir, settings):
        self.runs.append(FakeRun(self.told, locals()))
        self.runs[-1].log = self.told.append
        return self.runs[-1]


class FakeTrackio:
    """trackio.init, which knows a run by its name, and a run's log with a step."""

    def __init__(self):
        self.runs, self.told = [], []

    def init(self, project, *, name, resume, config, embed, auto_log_gpu, auto_log_cpu):
        self.runs.append(FakeRun(self.told, locals()))
        self.runs[-1].log = lambda metrics, step=None: self.told.append((metrics, step))
        return self.runs[-1]

    def finish(self):
        self.runs[-1].ended = 0


@pytest.fixture
def fakes(monkeypatch):
    """Stand-ins for the libraries that are too large for every test environment."""
    fakes = SimpleNamespace(wandb=FakeWandb(), trackio=FakeTrackio())
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.delenv("WANDB_DIR", raising=False)
    for name, fake in vars(fakes).items():
        monkeypatch.setitem(sys.modules, name, fake)
    return fakes


def test_wandb_has_a_step_of_its_own_for_every_stage(tmp_path, fakes):
    lines = [("target", 9, {"loss": 1.0}), ("unlearn", 1, {"loss": 0.5}), ("target", 9, {"u": 2.0})]
    track(tmp_path, ["wandb"], lines, summary={"after.x": 0.5, "name": "toy"})
    assert fakes.wandb.told == [
        ("target/step", None),
        ("target/*", "target/step"),
        {"target/step": 9, "target/loss": 1.0},
        ("unlearn/step", None),
        ("unlearn/*", "unlearn/step"),
        {"unlearn/step": 1, "unlearn/loss": 0.5},
        {"target/step": 9, "target/u": 2.0},
    ]
    (run,) = fakes.wandb.runs
    assert run.summary == {"after.x": 0.5} and run.ended == 0
    assert run.made["config"] == {"name": "toy"} and run.made["dir"] == tmp_path


def test_what_is_printed_is_never_sent_to_wandb(tmp_path, fakes):
    track(tmp_path, ["wandb"], [])
    settings = fakes.wandb.runs[0].made["settings"]
    assert settings.console == "off" and settings.save_code is False
    assert fakes.wandb.runs[0].ended == 1, "a run that broke off is no finished one"


def test_trackio_takes_the_update_as_its_step(tmp_path, fakes):
    track(tmp_path, ["trackio"], [("unlearn", 3, {"loss": 0.5})], summary={"after.x": 0.25})
    told = [({"unlearn/loss": 0.5}, 3), ({"summary/after.x": 0.25}, 0)]
    assert fakes.trackio.told == told and fakes.trackio.runs[0].ended == 0


def test_a_resumed_run_is_the_same_one_to_its_trackers_and_another_run_is_not(tmp_path, fakes):
    for folder in ("a", "a", "b"):
        (tmp_path / folder).mkdir(exist_ok=True)
        track(tmp_path / folder, ["wandb", "trackio"], [])
    ids = [run.made["id"] for run in fakes.wandb.runs]
    names = [run.made["name"] for run in fakes.trackio.runs]
    for first, again, other in (ids, names):
        assert first == again != other
    assert {run.made["resume"] for run in (*fakes.wandb.runs, *fakes.trackio.runs)} == {"allow"}


def test_a_tracker_that_fails_is_left_out_with_one_warning_and_the_others_go_on(tmp_path, fakes):
    def fail(metrics):
        raise OSError("the server\nis gone")

    lines = [("unlearn", step, {"loss": 0.5}) for step in (1, 2, 3)]
    real = fakes.wandb.init

    def init(**options):
        run = real(**options)
        run.log = fail
        return run

    fakes.wandb.init, told = init, []
    track(tmp_path, ["wandb", "trackio"], lines, summary={}, told=told)
    assert len(told) == 1
    assert told[0].startswith(
        "output.trackers: wandb failed and is left out from now on (the server is gone). The run "
    )
    assert [step for _, step in fakes.trackio.told] == [1, 2, 3]


def test_a_tracker_that_cannot_even_begin_or_end_does_not_end_the_run(tmp_path, fakes, monkeypatch):
    fakes.wandb.init = lambda **options: 1 / 0
    monkeypatch.setattr(FakeTrackio, "finish", lambda self: 1 / 0)
    told = []
    track(tmp_path, ["wandb", "trackio"], [], told=told)
    assert [text.split()[1] for text in told] == ["wandb", "trackio"]


def test_a_missing_package_is_one_sentence_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    experiment = load_config("toy", "output.trackers=[wandb]")
    with pytest.raises(ConfigError, match=r"pip install wandb, or leave it out"):
        workflows.unlearn(experiment, out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_tensorboard_in_a_bucket_is_refused():
    with pytest.raises(ConfigError, match="tensorboard writes to disks only"):
        check_trackers(["tensorboard"], paths.to_path("gs://bucket/runs"))


def test_every_tracker_may_be_asked_for_and_has_an_extra():
    allowed = get_args(get_args(Output.model_fields["trackers"].annotation)[0])
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(allowed) == set(TRACKERS)
    for name in TRACKERS:
        assert project["optional-dependencies"][name][0].startswith(f"{name}>=")


def test_an_unknown_tracker_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match=r"Did you mean 'tensorboard'\?"):
        load_config("toy", "output.trackers=[tensorbord]")
