# SPDX-License-Identifier: Apache-2.0
"""Joining the others: what is said where they do not come."""

import os
import subprocess
import sys

SCRIPT = """
import sys
from unilogit_jax import cli
from unilogit_jax.hosts import start
start.PATIENCE, start.SILENCE = 2, 1
sys.exit(cli.main(["evaluate", "run"]))
"""


def test_processes_that_never_meet_end_with_one_sentence():
    env = os.environ | {
        "JAX_COORDINATOR_ADDRESS": "localhost:1",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": "1",
    }
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True)
    waiting, sentence = done.stderr.splitlines()
    assert done.returncode == 2
    assert waiting == "waiting for other processes, which the environment tells of ..."
    assert "did not meet at localhost:1: not all came within 2 s. Start all of them" in sentence
