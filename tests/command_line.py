# SPDX-License-Identifier: Apache-2.0
"""Runs as processes of their own: started as a user does, waited for, read back."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import jax

from unilogit_jax import workflows

ROOT = Path(__file__).parents[1]
SMALL = (
    "model.scratch.width=32",
    "model.scratch.heads=2",
    "model.scratch.layers=1",
    "finetune.batch_size=16",
    "unlearn.steps=24",
    "unlearn.batch_size=8",
    "unlearn.retain_ratio=1",
    "eval.gold=false",
    "eval.max_items=3",
    "eval.max_new_tokens=4",
    "eval.batch_size=16",
    "output.log_every=1",
)
"""Settings of runs of seconds."""


def undisturbed(folder, settings):
    """A run on a disk that nobody disturbs, as a process too: what compiles it is the same."""
    ends([start("unlearn", "toy", *settings, "--out", str(folder))], 0, within=300)
    return folder


def start(*words, devices=8, cwd=None, **variables):
    """`unilogit WORDS` on so many CPU devices; standard error is kept."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    return subprocess.Popen(
        [sys.executable, "-m", "unilogit_jax", *words],
        env=env | variables | {"PYTHONPATH": path},
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def two_hosts(*words, verb="unlearn", cwds=(None, None)):
    """Two processes of one `unilogit VERB WORDS`, four CPU devices each, killed at the end."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = []
    try:
        for number, cwd in enumerate(cwds):
            variables = {
                "JAX_COORDINATOR_ADDRESS": address,
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": str(number),
            }
            processes.append(start(verb, *words, devices=4, cwd=cwd, **variables))
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stderr.close()


def ends(processes, code, *, within=120):
    """What the processes say on standard error, all of which leave with this code."""
    messages = []
    for process in processes:
        try:
            messages.append(process.communicate(timeout=within)[1])
        except subprocess.TimeoutExpired:
            raise AssertionError("it hangs") from None
    assert [process.returncode for process in processes] == [code] * len(processes), messages
    assert not any("Traceback" in message for message in messages), messages
    return messages


def wait_for(path, stage, step, *processes):
    """Until the metrics hold a line of this stage and update."""
    began = time.monotonic()
    while time.monotonic() - began < 300:
        if path.exists() and f'"stage": "{stage}", "step": {step},' in path.read_text():
            return
        for process in processes:
            assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    raise AssertionError(f"{stage} {step} was never reached")


def lines(run):
    """Every logged update but its speed."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "tokens_per_second"} for line in found]


def weights(run):
    """Those that the run is for."""
    _, params, _ = workflows.load_pretrained(run)
    return jax.device_get(params)
