# SPDX-License-Identifier: Apache-2.0
"""Runs that are ended from outside, as a process of their own, and resumed to the same end."""

import signal

import jax
import numpy as np
import pytest
from command_line import lines, start, undisturbed, wait_for, weights

SETTINGS = (
    "model.scratch.width=32",
    "model.scratch.heads=2",
    "model.scratch.layers=1",
    "finetune.steps=60",
    "unlearn.steps=60",
    "eval.max_items=5",
    "eval.max_new_tokens=8",
    "output.checkpoint_every=3",
    "output.log_every=1",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody disturbed."""
    return undisturbed(tmp_path_factory.mktemp("runs") / "whole", SETTINGS)


def kill_while_saving(process, folder):
    """SIGKILL while a checkpoint is written, whose folder has another name until it is whole."""
    while True:
        assert process.poll() is None
        unfinished = list(folder.glob("*.orbax-checkpoint-tmp"))
        if unfinished:
            process.send_signal(signal.SIGSTOP)
            if unfinished[0].exists():
                break
            process.send_signal(signal.SIGCONT)
    process.kill()
    process.communicate()
    assert not (folder / unfinished[0].name.partition(".")[0]).exists()


def test_a_run_ended_by_sigterm_and_by_sigkill_ends_as_if_it_had_not_been(whole, tmp_path):
    run = tmp_path / "run"
    metrics = run / "metrics.jsonl"
    process = start("unlearn", "toy", *SETTINGS, "--out", str(run))
    wait_for(metrics, "target", 23, process)
    process.send_signal(signal.SIGTERM)
    _, message = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "the machine asked to stop (SIGTERM); update" in message
    assert "Traceback" not in message
    saved = max(int(p.name) for p in (run / "checkpoints" / "target").iterdir())
    assert f"update {saved} of 60 is saved" in message
    assert lines(run)[-1]["step"] == saved, "the last update was not lost"

    process = start("unlearn", "--resume", str(run))
    wait_for(metrics, "unlearn", 12, process)
    folder = run / "checkpoints" / "unlearn"
    kill_while_saving(process, folder)
    assert (run / "status").read_text() == "running\n"

    process = start("unlearn", "--resume", str(run))
    _, message = process.communicate(timeout=300)
    assert process.returncode == 0, message
    assert lines(run) == lines(whole)
    jax.tree.map(np.testing.assert_array_equal, weights(run), weights(whole))
