# SPDX-License-Identifier: Apache-2.0
"""What every process of a launch starts: begins a run, or goes on with it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "launch" / "start_or_resume.sh"
TRICKY = ["my config.yaml", "unlearn.learning_rates={embed: 0.1}", "name=it's $HOME", ""]


def test_a_run_that_is_not_there_is_begun_with_its_arguments_unchanged(stubs, tmp_path):
    python = stubs.add("stub-python")
    out = tmp_path / "the run"
    out.mkdir()  # a folder alone is no run
    done = stubs.run(SCRIPT, "unlearn", out, *TRICKY, PYTHON=python)
    assert done.returncode == 0, done.stderr
    words = ["-m", "unilogit_jax", "unlearn", "--out", str(out), *TRICKY]
    assert stubs.calls() == [["stub-python", *words]]


def test_a_run_that_is_there_goes_on_with_its_own_config(stubs, tmp_path):
    python = stubs.add("stub-python")
    (tmp_path / "config.yaml").touch()
    assert stubs.run(SCRIPT, "finetune", f"{tmp_path}/", *TRICKY, PYTHON=python).returncode == 0
    words = ["-m", "unilogit_jax", "finetune", "--resume", str(tmp_path)]
    assert stubs.calls() == [["stub-python", *words]]


@pytest.mark.parametrize("there", [True, False])
def test_a_run_at_a_url_is_looked_for_where_it_is(stubs, tmp_path, there):
    # Looking is left to the real Python, starting is not.
    text = f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} "$@"\necho "$@"\n'
    python = stubs.script("python-that-looks", text)
    if there:
        (tmp_path / "config.yaml").touch()
    url = f"file://{tmp_path}"
    done = stubs.run(SCRIPT, "unlearn", url, "toy", PYTHON=python)
    begin, go_on = f"--out {url} toy", f"--resume {url}"
    assert done.stdout == f"-m unilogit_jax unlearn {go_on if there else begin}\n"


def test_a_store_that_cannot_be_asked_starts_nothing(stubs, tmp_path):
    words = ["unlearn", "nosuch://bucket/run", "toy"]
    done = stubs.run(SCRIPT, *words, PYTHON=sys.executable, cwd=tmp_path)
    assert done.returncode == 1
    assert "nosuch" in done.stderr and "unilogit_jax" not in done.stderr


def test_sigterm_reaches_the_run_itself(stubs, tmp_path):
    text = (
        f"#!{sys.executable}\nimport signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "print('ready', flush=True)\ntime.sleep(50)\n"
    )
    env = os.environ | {"PYTHON": str(stubs.script("patient-python", text))}
    command = [SCRIPT, "unlearn", tmp_path / "run", "toy"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143


def test_the_command_line_takes_what_the_script_gives(stubs, tmp_path):
    where = {"PYTHON": sys.executable, "PYTHONPATH": SCRIPT.parents[2]}
    begun = stubs.run(SCRIPT, "unlearn", tmp_path / "run", "no-such-config", "a=b", **where)
    assert begun.returncode == 2 and "no-such-config" in begun.stderr
    (tmp_path / "config.yaml").write_text("nonsense: 1\n")
    resumed = stubs.run(SCRIPT, "unlearn", tmp_path, "no-such-config", "a=b", **where)
    assert resumed.returncode == 2 and "nonsense" in resumed.stderr


def test_too_few_words_are_refused(stubs):
    assert stubs.run(SCRIPT, "unlearn", "/mnt/run").returncode == 2
