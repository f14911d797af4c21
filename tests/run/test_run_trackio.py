# SPDX-License-Identifier: Apache-2.0
"""Trackio itself, offline: collected where it is installed."""

import json
import os
import subprocess
import sys

from unilogit_jax.run import trackers

SCRIPT = """
import json, sys
from pathlib import Path
from unilogit_jax.run.trackers import Trackers
for turn in range(2):
    tracked = Trackers()
    tracked.start(["trackio"], Path(sys.argv[1]), {"name": "toy"}, warn=sys.exit)
    tracked.log(stage="target", step=5 + turn, loss=0.5)
    tracked.log(stage="unlearn", step=1 + turn, loss=0.25)
    tracked.finish({"after.x": 0.5} if turn else {}, done=bool(turn))
from trackio.sqlite_storage import SQLiteStorage
from trackio import Api
(run,) = Api().runs(sys.argv[2])
rows = SQLiteStorage.get_logs(sys.argv[2], run.name)
print(json.dumps([{k: v for k, v in row.items() if k != "timestamp"} for row in rows]))
"""


def test_a_run_and_the_same_one_resumed(tmp_path):
    """In a process of its own: trackio chooses its folder when it is imported."""
    run = tmp_path / "run"
    run.mkdir()
    words = [sys.executable, "-c", SCRIPT, str(run), trackers.PROJECT]
    env = os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio"), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])
    told = sorted((step, *sorted(row.items())) for row in rows for step in [row.pop("step")])
    assert told == [
        (0, ("summary/after.x", 0.5)),
        (1, ("unlearn/loss", 0.25)),
        (2, ("unlearn/loss", 0.25)),
        (5, ("target/loss", 0.5)),
        (6, ("target/loss", 0.5)),
    ]
