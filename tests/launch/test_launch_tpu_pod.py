# SPDX-License-Identifier: Apache-2.0
"""The launcher for TPU slices: what it prints, what it calls, and what then happens on a worker."""

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "launch" / "tpu_pod.sh"
OVERRIDES = ["unlearn.learning_rates={embed: 0.1}", 'name=it\'s "$HOME"', "a=$(touch oops)", ""]
FLAGS = ["--zone=us-west4-a", "--project=mine", "--internal-ip"]
OPTIONS = ["--project", "mine", "--flag", "--internal-ip"]
TPU_VM = ["gcloud", "compute", "tpus", "tpu-vm"]


def call(stubs, *words, options=OPTIONS, cwd=None):
    action, *rest = words
    return stubs.run(SCRIPT, *options, action, "pod", "us-west4-a", *rest, cwd=cwd)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "my config.yaml"
    path.touch()
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["install"],
        ["run", "/mnt/the run", "CONFIG", *OVERRIDES],
        ["run", "gs://bucket/run", "toy"],
        ["stop"],
        ["fetch", "/mnt/run", "here now"],
        ["fetch", "gs://bucket/run/", "here"],
        ["each", "echo 'a  b'; ls"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_the_dry_run_calls_nothing_and_prints_what_a_run_calls(stubs, config, words):
    for name in ("gcloud", "tar", "mkdir"):
        stubs.add(name)
    words = [str(config) if word == "CONFIG" else word for word in words]
    shown = call(stubs, *words, options=["--dry-run", *OPTIONS])
    assert shown.returncode == 0, shown.stderr
    assert stubs.calls() == []
    done = call(stubs, *words)
    assert done.returncode == 0, done.stderr
    assert stubs.calls()
    assert shlex.split(shown.stdout) == [word for line in stubs.calls() for word in line]


def test_installing_copies_a_whole_checkout_to_every_worker(stubs):
    stubs.add("gcloud")
    assert call(stubs, "install").returncode == 0
    archive = ROOT / "build" / "unilogit_jax.tar.gz"
    copy, install = stubs.calls()
    target = [str(archive), "pod:unilogit_jax.tar.gz"]
    assert copy == [*TPU_VM, "scp", *target, *FLAGS, "--worker=all"]
    assert install[:-1] == [*TPU_VM, "ssh", "pod", *FLAGS, "--worker=all"]
    assert (
        subprocess.run(["bash", "-n", "-c", install[-1].removeprefix("--command=")]).returncode == 0
    )
    listed = subprocess.run(["tar", "-tzf", archive], capture_output=True, text=True, check=True)
    names = listed.stdout.split()
    assert {"pyproject.toml", "README.md", "LICENSE", "scripts/install.sh"} <= set(names)
    assert {"unilogit_jax/__init__.py", "configs/toy.yaml"} <= set(names)
    assert not any("__pycache__" in name for name in names)


def test_a_config_that_lies_here_is_copied_and_one_that_does_not_is_left_alone(stubs, config):
    stubs.add("gcloud")
    assert call(stubs, "run", "/mnt/run", config).returncode == 0
    assert call(stubs, "run", "/mnt/run", "/mnt/there.yaml").returncode == 0
    copy, *runs = stubs.calls()
    target = [str(config), "pod:unilogit_jax.yaml"]
    assert copy == [*TPU_VM, "scp", *target, *FLAGS, "--worker=all"]
    assert " /mnt/run unilogit_jax.yaml " in runs[0][-1]
    assert " /mnt/run /mnt/there.yaml " in runs[1][-1]


def test_fetching_takes_the_report_from_one_worker(stubs, tmp_path):
    stubs.add("gcloud")
    assert call(stubs, "fetch", "/mnt/run", cwd=tmp_path).returncode == 0
    files = ["pod:/mnt/run/report.html", "pod:/mnt/run/summary.json", "./"]
    assert stubs.calls() == [[*TPU_VM, "scp", *files, *FLAGS, "--worker=0"]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "runs/mine", "toy"], "all workers share"),
        (["fetch", "runs/mine"], "all workers share"),
        (["run", "/mnt/run"], "CONFIG"),
        (["each", "two", "words"], "quote the command"),
        (["destroy"], "unknown action 'destroy'"),
    ],
)
def test_a_mistake_is_refused_before_anything_is_called(stubs, words, said):
    stubs.add("gcloud")
    done = call(stubs, *words)
    assert done.returncode == 2 and said in done.stderr
    assert stubs.calls() == []


def test_an_unknown_option_is_refused_and_help_needs_nothing(stubs):
    assert stubs.run(SCRIPT, "--dryrun", "install", "pod", "zone").returncode == 2
    assert stubs.run(SCRIPT, "install", "pod").returncode == 2
    shown = stubs.run(SCRIPT, "-h")
    assert shown.returncode == 0 and "fetch   TPU ZONE OUT" in shown.stdout


# What the workers are told, carried out in a home of their own.


@pytest.fixture
def on_worker(stubs, tmp_path):
    home = tmp_path / "home"
    launch = home / "unilogit_jax" / "scripts" / "launch"
    launch.mkdir(parents=True)
    stubs.add("gcloud")

    def start(*words):
        assert call(stubs, *words).returncode == 0
        command = stubs.calls()[-1][-1].removeprefix("--command=")
        return subprocess.Popen(
            ["bash", "-c", command],
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start, launch / "start_or_resume.sh"


def write_start(path, text):
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


def test_a_worker_starts_the_run_with_arguments_unchanged_and_ends_as_it_ends(on_worker):
    start, script = on_worker
    write_start(script, 'printf "<%s>\\n" "$@"; exit 7')
    process = start("run", "/mnt/the run", "toy", *OVERRIDES)
    out, err = process.communicate(timeout=30)
    words = ["unlearn", "/mnt/the run", "toy", *OVERRIDES]
    assert (out, process.returncode) == ("".join(f"<{word}>\n" for word in words), 7), err
    assert not (script.parents[3] / "oops").exists()


def test_a_worker_refuses_a_second_run_and_stopping_lets_the_first_one_save(on_worker):
    start, script = on_worker
    write_start(script, "trap 'echo saved; exit 143' TERM; echo ready; while :; do sleep 0.1; done")
    first = start("run", "/mnt/run", "toy")
    assert first.stdout.readline() == "ready\n"
    second = start("run", "/mnt/run", "toy")
    assert "going on here already" in second.communicate(timeout=30)[1]
    assert second.returncode == 2
    stopping = start("stop")
    assert (stopping.communicate(timeout=30), stopping.returncode) == (("", ""), 0)
    assert first.communicate(timeout=30)[0] == "saved\n"
    assert first.returncode == 143


def test_a_run_outlives_the_connection_that_began_it(on_worker):
    start, script = on_worker
    write_start(script, "echo ready; sleep 0.5; echo done > finished")
    process = start("run", "/mnt/run", "toy")
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGHUP)
    process.communicate(timeout=30)
    finished = script.parents[3] / "finished"
    for _ in range(100):
        if finished.exists():
            return
        time.sleep(0.1)
    raise AssertionError("the run ended with its connection")
