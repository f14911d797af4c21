# SPDX-License-Identifier: Apache-2.0
"""The run folder: never reused, never half written, without secrets."""

import json
import os
import re
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from read_only import read_only

from unilogit_jax.errors import CheckpointError, StorageError
from unilogit_jax.run import (
    Console,
    MetricsLog,
    RunFolder,
    console,
    files,
    folder,
    read_json,
    write_json,
)
from unilogit_jax.run.environment import hide_secrets


def test_a_new_run_is_named_by_time_and_holds_config_and_status(tmp_path):
    run = RunFolder.create(tmp_path / "runs", "tofu/forget10 unilogit", config_yaml="seed: 0\n")
    assert re.fullmatch(r"\d{4}-\d{6}-tofu-forget10-unilogit", run.path.name)
    assert run.config.read_text() == "seed: 0\n"
    assert run.status == "running"


def test_a_name_never_leaves_the_parent_folder(tmp_path):
    run = RunFolder.create(tmp_path / "runs", "../../etc", config_yaml="")
    assert run.path.parent == tmp_path / "runs"


def test_runs_started_in_the_same_second_get_folders_of_their_own(tmp_path, monkeypatch):
    class Clock(folder.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 11, 23, 21, 4, 0)

    monkeypatch.setattr(folder, "datetime", Clock)
    paths = [RunFolder.create(tmp_path, "x", config_yaml=str(i)).path for i in range(3)]
    assert [p.name for p in paths] == ["1123-210400-x", "1123-210400-x-2", "1123-210400-x-3"]
    assert [(p / "config.yaml").read_text() for p in paths] == ["0", "1", "2"]


def test_the_exact_path_is_used_when_it_is_new_or_empty(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    for path in (tmp_path / "a" / "b", empty):
        assert RunFolder.create(tmp_path, "x", config_yaml="", exact=path).path == path


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"nothing was overwritten.*output\.dir or --out\."):
        RunFolder.create(tmp_path, "x", config_yaml="", exact=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_existing_run_is_refused_with_the_hint_to_resume(tmp_path):
    path = RunFolder.create(tmp_path, "x", config_yaml="old").path
    with pytest.raises(CheckpointError, match=f"--resume {path}"):
        RunFolder.create(tmp_path, "x", config_yaml="new", exact=path)
    assert (path / "config.yaml").read_text() == "old"


def test_of_two_runs_that_claim_a_folder_at_once_the_second_is_refused(tmp_path, monkeypatch):
    RunFolder.create(tmp_path, "x", config_yaml="first", exact=tmp_path / "run")
    monkeypatch.setattr(folder, "_claim_exact", lambda path: path)
    with pytest.raises(CheckpointError, match="nothing was overwritten"):
        RunFolder.create(tmp_path, "x", config_yaml="second", exact=tmp_path / "run")
    assert (tmp_path / "run" / "config.yaml").read_text() == "first"


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="is a file"):
        RunFolder.create(tmp_path, "x", config_yaml="", exact=tmp_path / "file")
    with pytest.raises(CheckpointError, match="file"):
        RunFolder.create(tmp_path / "file", "x", config_yaml="")


def test_opening_finds_the_run(tmp_path):
    path = RunFolder.create(tmp_path, "x", config_yaml="").path
    assert RunFolder.open(str(path)) == RunFolder(path)
    assert RunFolder.open(path).eval_at(125) == path / "eval" / "000125"


def test_opening_something_else_says_what_was_found(tmp_path):
    run = RunFolder.create(tmp_path, "x", config_yaml="", exact=tmp_path / "first-run").path
    (tmp_path / "other").mkdir()
    with pytest.raises(CheckpointError, match="Did you mean 'first-run'"):
        RunFolder.open(tmp_path / "frist-run")
    with pytest.raises(CheckpointError, match="holds runs, name one of them: first-run"):
        RunFolder.open(tmp_path)
    with pytest.raises(CheckpointError, match=r"no run folder: it has no config\.yaml"):
        RunFolder.open(tmp_path / "other")
    with pytest.raises(CheckpointError, match="is a file"):
        RunFolder.open(run / "config.yaml")


def test_the_status_is_one_line_and_of_a_known_kind(tmp_path):
    run = RunFolder.create(tmp_path, "x", config_yaml="")
    run.set_status("failed: out of\nmemory")
    assert run.status_file.read_text() == "failed: out of memory\n"
    with pytest.raises(ValueError, match="finished"):
        run.set_status("finished")


def test_an_interrupted_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    run = RunFolder.create(tmp_path, "x", config_yaml="")
    write_json(run.summary, {"a": 1})

    def power_cut(*_):
        raise OSError("power cut")

    monkeypatch.setattr(files.os, "replace", power_cut)
    for write in (lambda: run.set_status("done"), lambda: write_json(run.summary, {"a": 2})):
        with pytest.raises(OSError, match="power cut"):
            write()
    assert run.status == "running"
    assert read_json(run.summary) == {"a": 1}
    assert sorted(p.name for p in run.path.iterdir()) == ["config.yaml", "status", "summary.json"]


def test_what_a_disk_refuses_is_one_sentence_and_the_old_file_stays(tmp_path):
    run = RunFolder.create(tmp_path, "x", config_yaml="")
    console, metrics = Console(run.log, quiet=True), MetricsLog(run.metrics)
    writes = {
        run.status_file: lambda: run.set_status("done"),
        run.log: lambda: console.line("a line"),
        run.metrics: lambda: metrics.write(stage="unlearn", step=1, loss=0.5),
        run.path / "new" / "page": lambda: files.write_text(run.path / "new" / "page", "text"),
    }
    with read_only(tmp_path):
        for path, write in writes.items():
            said = rf"^{re.escape(str(path))} cannot be written: Read-only file system\. What"
            with pytest.raises(StorageError, match=said):
                write()
    assert run.status == "running"
    assert sorted(p.name for p in run.path.iterdir()) == ["config.yaml", "status"]


def test_a_clock_that_goes_backwards_overwrites_nothing(tmp_path, monkeypatch):
    class Clock(folder.datetime):
        hours = count(23, -1)

        @classmethod
        def now(cls, tz=None):
            return cls(2026, 11, 23, next(cls.hours), 4, 0, tzinfo=tz)

    for module in (folder, console):
        monkeypatch.setattr(module, "datetime", Clock)
    runs = [RunFolder.create(tmp_path, "x", config_yaml=str(i)) for i in range(2)]
    assert [run.config.read_text() for run in runs] == ["0", "1"]
    run = runs[0]
    for _ in range(2):
        run.write_env()
    run.set_status("done")
    env = read_json(run.env)
    assert env["started"] > env["resumed"][0] > env["ended"], "as the clock said"
    log = Console(run.log, quiet=True)
    for text in ("first", "second"):
        log.line(text)
    assert [line.split()[-1] for line in run.log.read_text().splitlines()] == ["first", "second"]


def test_env_holds_versions_times_and_extras(tmp_path):
    run = RunFolder.create(tmp_path, "x", config_yaml="")
    run.write_env({"seed": 3, "devices": ["cpu"] * 2})
    env = read_json(run.env)
    assert env["seed"] == 3
    assert env["ended"] is None
    assert {"unilogit_jax", "python", "jax", "flax", "optax", "orbax-checkpoint"} <= set(
        env["versions"]
    )
    assert env["versions"]["jax"] is not None
    run.set_status("done")
    assert read_json(run.env) == env | {"ended": read_json(run.env)["ended"]}
    assert read_json(run.env)["ended"] >= env["started"]


def test_resuming_keeps_the_first_start(tmp_path):
    run = RunFolder.create(tmp_path, "x", config_yaml="")
    run.write_env()
    write_json(run.env, read_json(run.env) | {"started": "2026-01-01T00:00:00+00:00"})
    run.write_env()
    assert read_json(run.env)["started"].startswith("2026-01-01")
    assert len(read_json(run.env)["resumed"]) == 1


def test_env_holds_no_environment_variable_and_no_token(tmp_path, monkeypatch):
    secrets = ["hf_SecretSecretSecret1", "plainsecret2", "plainsecret3", "plainsecret4"]
    monkeypatch.setenv("HF_TOKEN", secrets[0])
    monkeypatch.setattr(
        sys,
        "argv",
        [
            *("unilogit", secrets[0], "--hf-token", secrets[1], f"hub.api_key={secrets[2]}"),
            *(f"https://me:{secrets[3]}@host/x", "max_tokens=12"),
        ],
    )
    run = RunFolder.create(tmp_path, "x", config_yaml="")
    run.write_env()
    text = run.env.read_text()
    assert not [s for s in secrets if s in text]
    assert "max_tokens=12" in text
    assert os.environ["PATH"] not in text


def test_ordinary_words_of_a_command_line_are_kept():
    words = ["unilogit", "unlearn", "toy.yaml", "data.max_tokens=5", "method.name=npo", "--resume"]
    assert hide_secrets(words) == words


def test_env_notes_commit_and_uncommitted_changes(tmp_path, monkeypatch):
    def git(*words):
        who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "code.py").write_text("a")
    git("init", "-q")
    git("add", "code.py")
    git("commit", "-qm", "x")
    monkeypatch.chdir(tmp_path)
    run = RunFolder.create(tmp_path / "runs", "x", config_yaml="")
    run.write_env()
    clean = read_json(run.env)["git"]
    (tmp_path / "code.py").write_text("b")
    run.write_env()
    changed = read_json(run.env)["git"]
    assert len(clean["commit"]) == 40
    assert (clean["dirty"], changed["dirty"]) == (False, True)


def test_a_missing_git_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    run = RunFolder.create(tmp_path, "x", config_yaml="")
    run.write_env()
    assert read_json(run.env)["git"] is None


def test_json_takes_arrays_paths_and_numbers_that_are_not_finite(tmp_path):
    np = pytest.importorskip("numpy")
    obj = {"a": np.float32(0.5), "b": np.arange(2), "c": float("inf"), "d": Path("x"), 5: (1, None)}
    write_json(tmp_path / "x.json", obj)
    expected = {"a": 0.5, "b": [0, 1], "c": None, "d": "x", "5": [1, None]}
    assert json.loads((tmp_path / "x.json").read_text()) == expected


def test_json_refuses_what_it_cannot_hold_and_keeps_the_old_file(tmp_path):
    write_json(tmp_path / "x.json", 1)
    with pytest.raises(TypeError, match="bytes"):
        write_json(tmp_path / "x.json", [b"x"])
    assert read_json(tmp_path / "x.json") == 1


def test_reading_a_missing_or_damaged_file_says_so(tmp_path):
    (tmp_path / "half.json").write_text('{"a": ')
    with pytest.raises(CheckpointError, match="does not exist"):
        read_json(tmp_path / "none.json")
    with pytest.raises(CheckpointError, match=r"half\.json is damaged"):
        read_json(tmp_path / "half.json")


def test_importing_the_room_loads_nothing_heavy():
    code = (
        "import sys, unilogit_jax.run; "
        "print(sorted({'jax','rich','matplotlib','jinja2','numpy'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.strip() == "[]"
