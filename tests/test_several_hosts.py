# SPDX-License-Identifier: Apache-2.0
"""Runs on several hosts, as real processes that share this machine: four CPU devices each."""

import json
import shutil
import signal
import sys
import time
from contextlib import ExitStack

import jax
import numpy as np
import pytest
from command_line import ROOT, SMALL, ends, lines, start, two_hosts, wait_for, weights

from unilogit_jax import workflows
from unilogit_jax.config import load_config
from unilogit_jax.run import Console

pytestmark = pytest.mark.slow

SETTINGS = (*SMALL, "finetune.steps=12", "output.checkpoint_every=4")


@pytest.fixture
def two():
    """two(*words, cwds=...) -> two processes of one run."""
    with ExitStack() as stack:
        yield lambda *words, **more: stack.enter_context(two_hosts(*words, **more))


@pytest.fixture
def nodes(tmp_path):
    """Working directories of two hosts without a common disk."""
    folders = tmp_path / "node0", tmp_path / "node1"
    for folder in folders:
        folder.mkdir()
    return folders


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of one process."""
    place = tmp_path_factory.mktemp("whole") / "run"
    experiment = load_config("toy", *SETTINGS)
    return workflows.unlearn(experiment, out=place, console=Console(quiet=True)).path


def test_a_run_of_two_hosts_that_is_killed_goes_on_on_one_to_the_same_end(two, whole, tmp_path):
    run = tmp_path / "run"
    processes = two("toy", *SETTINGS, "--out", str(run))
    wait_for(run / "metrics.jsonl", "unlearn", 6, *processes)
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()
    assert (run / "status").read_text() == "running\n"
    assert len(lines(run)) < 12 + 24

    resumed = start("unlearn", "--resume", str(run))
    (message,) = ends([resumed], 0)
    assert len(lines(run)) == len(lines(whole)) == 12 + 24, message
    for mine, wanted in zip(lines(run), lines(whole), strict=True):
        assert mine.pop("stage") == wanted.pop("stage")
        assert mine == pytest.approx(wanted, rel=1e-5)
    jax.tree.map(
        lambda x, wanted: np.testing.assert_allclose(x, wanted, rtol=0, atol=1e-5),
        weights(run),
        weights(whole),
    )


def test_attacks_by_two_hosts_find_what_one_finds(two, whole, tmp_path):
    words = ("--only", "relearn", "sample", "lens", "--rows", "8", "--updates", "2")
    more = ("--samples", "2", "--out", str(tmp_path / "two.json"))
    ends(two(str(whole), *words, *more, verb="attack"), 0)
    strong = {"rows": 8, "updates": 2, "samples": 2, "only": ["relearn", "sample", "lens"]}
    alone = workflows.attack(
        whole, out=tmp_path / "one.json", console=Console(quiet=True), **strong
    )
    page = json.loads((tmp_path / "two.json").read_text())
    assert [row["attack"] for row in page["rows"]] == ["relearn"] * 4 + ["sample"] * 2 + ["lens"]
    for mine, wanted in zip(page["rows"], alone["rows"], strict=True):
        assert mine.pop("values") == pytest.approx(wanted["values"], rel=1e-5), mine
        assert mine.items() <= wanted.items()


def test_a_signal_to_one_host_makes_all_save_one_update_and_leave(two, tmp_path):
    run = tmp_path / "run"
    processes = two("toy", *SETTINGS, "finetune.steps=2000", "--out", str(run))
    wait_for(run / "metrics.jsonl", "target", 5, *processes)
    processes[1].send_signal(signal.SIGTERM)
    first, second = ends(processes, 143)
    saved = max(int(p.name) for p in (run / "checkpoints" / "target").iterdir())
    assert f"update {saved} of 2000 is saved" in first
    assert f"process 1: stage target: the machine asked to stop (SIGTERM); update {saved}" in second
    assert [line["step"] for line in lines(run)] == list(range(1, saved + 1))
    assert (run / "status").read_text().startswith("failed: stage target: the machine asked")


def test_a_signal_between_two_stages_is_heeded_at_the_next_update(two, tmp_path):
    run = tmp_path / "run"
    words = ("finetune.steps=4", "eval.gold=true", "--out", str(run))
    processes = two("toy", *SETTINGS, *words)
    wait_for(run / "metrics.jsonl", "gold", 4, *processes)
    while "evaluating gold ..." not in (run / "log.txt").read_text():
        time.sleep(0.02)
    processes[1].send_signal(signal.SIGTERM)
    for message in ends(processes, 143):
        assert "stage unlearn: the machine asked to stop (SIGTERM); update 1 of 24" in message


def test_a_host_that_fails_alone_does_not_leave_the_others_waiting(two, tmp_path):
    metrics = tmp_path / "run" / "metrics.jsonl"
    processes = two("toy", *SETTINGS, "finetune.steps=2000", "--out", str(tmp_path / "run"))
    wait_for(metrics, "target", 2, *processes)
    metrics.rename(tmp_path / "away")
    metrics.mkdir()
    first, _ = (process.communicate(timeout=60)[1] for process in processes)
    assert [process.returncode for process in processes] == [2, 1]
    assert "metrics.jsonl cannot be written: Is a directory" in first


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_folder_that_only_one_host_has_is_refused_by_all_and_nothing_is_left(two, nodes):
    # One name that is another folder in every process, as a local disk of every host is.
    place = "/proc/self/cwd/runs/first"
    for message in ends(two("toy", *SETTINGS, "--out", place, cwds=nodes), 2):
        assert f"{place} is not shared: process 1 of 2 sees nothing of what the first" in message
        assert "set output.dir or --out" in message
    assert not any(path for folder in nodes for path in folder.iterdir())


def test_a_run_whose_folder_is_another_one_on_every_host_is_not_resumed(two, nodes):
    (nodes[0] / "run").mkdir()
    (nodes[0] / "run" / "config.yaml").write_text("name: x\n")
    shutil.copytree(nodes[0] / "run", nodes[1] / "run")
    for message in ends(two("--resume", "run", cwds=nodes), 2):
        assert "run is not shared: process 1 of 2" in message


def test_hosts_with_different_files_are_refused(two, nodes):
    text = (ROOT / "configs" / "toy.yaml").read_text()
    for seed, folder in enumerate(nodes):
        (folder / "my.yaml").write_text(text.replace("name: toy", f"name: toy{seed}"))
    for message in ends(two("my.yaml", cwds=nodes), 2):
        assert "do not have the same configuration: process 1 differs from the first" in message


def test_what_fails_on_one_host_ends_all_with_its_reason(two, nodes):
    shutil.copy(ROOT / "configs" / "toy.yaml", nodes[0] / "my.yaml")
    first, second = ends(two("my.yaml", cwds=nodes), 2)
    assert "my.yaml" in second and second.startswith("process 1: ")
    assert first.startswith("process 1 failed: ") and "my.yaml" in first
