# SPDX-License-Identifier: Apache-2.0
"""Weights & Biases itself, offline: collected where it is installed."""

import pytest

from unilogit_jax.run.trackers import Trackers


def test_a_run_and_the_same_one_resumed(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "1")
    for turn in range(2):
        tracked = Trackers()
        tracked.start(["wandb"], tmp_path, {"name": "toy"}, warn=pytest.fail)
        run = tracked._open["wandb"]._run
        tracked.log(stage="target", step=5 + turn, loss=0.5)
        tracked.log(stage="unlearn", step=1 + turn, loss=0.25)
        kept = dict(run.summary)
        tracked.finish({"after.x": 0.5}, done=bool(turn))
        assert kept["target/step"] == 5 + turn and kept["unlearn/loss"] == 0.25
    stored = sorted(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(stored) == 2 and len({file.name for file in stored}) == 1, "one id"
    assert all(b"unlearn/loss" in file.read_bytes() for file in stored)
