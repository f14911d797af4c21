# SPDX-License-Identifier: Apache-2.0
"""A run with a tracker: what it shows is what metrics.jsonl and summary.json hold."""

import json

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unilogit_jax import workflows
from unilogit_jax.config import load_config
from unilogit_jax.run import Console, MetricsLog
from unilogit_jax.run.trackers import Trackers


@pytest.mark.slow
def test_a_run_that_is_interrupted_and_resumed_is_shown_as_one(tmp_path, overrides, monkeypatch):
    whole = Trackers.log

    def interrupted(self, *, stage, step, **numbers):
        whole(self, stage=stage, step=step, **numbers)
        if step == 7:  # after the checkpoint of update 6
            raise KeyboardInterrupt

    words = ("output.trackers=[tensorboard]", "output.checkpoint_every=6", "eval.gold=false")
    experiment, place = load_config("toy", *overrides, *words), tmp_path / "run"
    monkeypatch.setattr(Trackers, "log", interrupted)
    with pytest.raises(KeyboardInterrupt):
        workflows.finetune(experiment, out=place, console=Console(quiet=True))
    monkeypatch.setattr(Trackers, "log", whole)
    run = workflows.resume(place, console=Console(quiet=True))
    board = EventAccumulator(str(place / "tensorboard"))
    board.Reload()
    losses = [(row["step"], np.float32(row["loss"])) for row in MetricsLog.read(run.metrics)]
    assert [step for step, _ in losses] == list(range(1, 13))
    shown = [(point.step, np.float32(point.value)) for point in board.Scalars("target/loss")]
    assert shown == losses
    summary = json.loads(run.summary.read_text())
    for name in ("finetuned.retain_probability", "seed"):
        (point,) = board.Scalars(f"summary/{name}")
        assert point.value == np.float32(summary[name])
