# SPDX-License-Identifier: Apache-2.0
"""Two processes on one run folder: the second is told, and changes nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from unilogit_jax.cli import main
from unilogit_jax.config import dump_config, load_config
from unilogit_jax.errors import CheckpointError
from unilogit_jax.run import RunFolder
from unilogit_jax.run.lock import take

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, time
from unilogit_jax.run import RunFolder
from unilogit_jax.run.lock import take
kept = take(RunFolder.open(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def run(tmp_path):
    config = load_config("toy", "finetune.steps=1", "unlearn.steps=1", "model.scratch.width=32")
    return RunFolder.create(tmp_path, "run", config_yaml=dump_config(config))


@pytest.fixture
def other(run):
    """Another process at work in the run."""
    command = [sys.executable, "-c", HOLD, str(run.path)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_run_is_held_until_it_is_let_go(run):
    before = sorted(path.name for path in run.path.iterdir())
    let_go = take(run)
    with pytest.raises(CheckpointError, match="another process is at work in"):
        take(run)
    let_go()
    take(run)()
    assert sorted(path.name for path in run.path.iterdir()) == before


def test_a_process_that_was_killed_holds_nothing(run, other):
    with pytest.raises(CheckpointError, match="go on with --resume"):
        take(run)
    other.send_signal(signal.SIGKILL)
    other.wait()
    take(run)()


def test_who_comes_second_is_told_and_changes_nothing(run, other, capsys):
    kept = {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()}
    assert main(["unlearn", "--resume", str(run.path)]) == 2
    said = capsys.readouterr().err
    assert f"another process is at work in {run.path}" in said and "Traceback" not in said
    assert {p.name: p.read_bytes() for p in run.path.iterdir() if p.is_file()} == kept
