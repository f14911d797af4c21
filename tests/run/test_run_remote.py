# SPDX-License-Identifier: Apache-2.0
"""Run folders in a bucket."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from unilogit_jax.errors import CheckpointError, StorageError
from unilogit_jax.paths import to_path
from unilogit_jax.run import Console, MetricsLog, RunFolder, folder, read_json, write_json


def test_a_run_is_made_where_it_was_asked_for_and_opened_again(gcs):
    run = RunFolder.create("unused", "x", config_yaml="name: grün\n", exact=f"{gcs.url}/runs/mine")
    assert gcs.names() == ["runs/mine/config.yaml", "runs/mine/status"]
    assert gcs.read("runs/mine/config.yaml").decode() == "name: grün\n"
    again = RunFolder.open(f"{gcs.url}/runs/mine/")
    assert again == run and again.status == "running"
    again.write_env({"seed": 1})
    again.set_status("failed: no\nreason")
    assert run.status == "failed: no reason" and read_json(run.env)["ended"]


def test_a_run_folder_in_use_is_never_reused(gcs):
    RunFolder.create("", "x", config_yaml="a", exact=f"{gcs.url}/runs/mine")
    gcs.write("other/file", b"")
    gcs.write("object", b"")
    for name, message in (
        ("runs/mine", "runs/mine exists and is not empty.*or continue .* --resume gs://"),
        ("other", r"other exists and is not empty; nothing was overwritten\. .*--out\.$"),
        ("object", "object is a file"),
    ):
        with pytest.raises(CheckpointError, match=message):
            RunFolder.create("", "x", config_yaml="b", exact=f"{gcs.url}/{name}")
    assert gcs.read("runs/mine/config.yaml") == b"a"


def test_runs_that_begin_in_one_second_get_folders_of_their_own(gcs, monkeypatch):
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 11, 23, 21, 4)

    monkeypatch.setattr(folder, "datetime", Clock)

    def create(number):
        return RunFolder.create(f"{gcs.url}/runs", "my run", config_yaml=f"name: {number}\n")

    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(create, range(4)))
    names = ["1123-210400-my-run", *(f"1123-210400-my-run-{n}" for n in (2, 3, 4))]
    assert sorted(run.path.name for run in runs) == names
    for number, run in enumerate(runs):
        assert run.config.read_text() == f"name: {number}\n"


def test_of_two_who_want_the_same_folder_one_is_refused(gcs, monkeypatch):
    # Both find it empty: then the store decides.
    monkeypatch.setattr(folder.Remote, "iterdir", lambda self: iter(()))
    RunFolder.create("", "x", config_yaml="first", exact=f"{gcs.url}/mine")
    with pytest.raises(CheckpointError, match="mine exists and is not empty"):
        RunFolder.create("", "x", config_yaml="second", exact=f"{gcs.url}/mine")
    assert gcs.read("mine/config.yaml") == b"first"


def test_what_is_no_run_is_told_with_what_there_is(gcs):
    for name in ("one", "two"):
        RunFolder.create("", "x", config_yaml="", exact=f"{gcs.url}/runs/{name}")
    for name, message in (
        ("runs/tow", "there is no run folder gs://.*/runs/tow. Did you mean 'two'"),
        ("runs", "It holds runs, name one of them: one, two"),
        ("runs/one/status", "runs/one/status is a file"),
    ):
        with pytest.raises(CheckpointError, match=message):
            RunFolder.open(f"{gcs.url}/{name}")


def test_a_bucket_that_refuses_is_not_taken_for_a_run_that_is_missing(gcs):
    RunFolder.create("", "x", config_yaml="", exact=f"{gcs.url}/run")
    gcs.refused[gcs.bucket] = 403
    with pytest.raises(StorageError, match="cannot be read"):
        RunFolder.open(f"{gcs.url}/run")
    with pytest.raises(StorageError, match="cannot be read"):
        read_json(to_path(f"{gcs.url}/run/env.json"))


def test_metrics_are_appended_truncated_and_read_as_on_a_disk(gcs, tmp_path):
    read = []
    for place in (to_path(gcs.url), tmp_path):
        for begin in (1, 4):
            log = MetricsLog(place / "metrics.jsonl")
            for step in range(begin, begin + 4):
                log.write(stage="target", step=step, loss=1 / step)
            log.write(stage="unlearn", step=1, loss=float("nan"))
            dropped = log.truncate_after("target", begin + 1)
            log.write(stage="target", step=begin + 2, loss=0.0)
            log.flush()
        read.append((dropped, MetricsLog.read(log.path)))
    assert read[0] == read[1]
    assert len(read[0][1]) == 3 + 3 + 2


def test_a_report_of_json_and_log_lies_in_the_bucket(gcs):
    place = to_path(f"{gcs.url}/run")
    write_json(place / "summary.json", {"loss": float("nan"), "where": place})
    assert read_json(place / "summary.json") == {"loss": None, "where": f"{gcs.url}/run"}
    console = Console(quiet=True)
    console.line("said before")
    console.log_to(place / "log.txt")
    console.line("said after")
    console.flush()
    first, second = gcs.read("run/log.txt").decode().splitlines()
    assert first.endswith("said before") and second.endswith("said after")
