# SPDX-License-Identifier: Apache-2.0
"""Run folders that are damaged: one sentence, exit code 2."""

import errno
import json
import math

import pytest

from unilogit_jax import cli, workflows
from unilogit_jax.config import dump_config, load_config
from unilogit_jax.errors import CheckpointError
from unilogit_jax.run import Console, RunFolder
from unilogit_jax.run.journal import Journal
from unilogit_jax.workflows._session import true_status

ITEM = {
    **{"group": "forget", "question": "q", "truth": "t", "answer": "a", "nll": 1.0, "kind": ""},
    **{"correct_nll": None, "wrong_nll": [], "exact": False, "rouge_l": 0.5, "malformed": False},
    **{"name": "", "others": [], "scores": {}, "tokens": 3, "wrong_tokens": []},
}


@pytest.fixture
def run(tmp_path):
    """A finished run, as far as `report` and `compare` look."""
    (tmp_path / "eval").mkdir()
    for name in ("before", "after"):
        made = {"suite": "", "summary": {"forget_probability": 0.5}, "items": [ITEM]}
        (tmp_path / f"eval/{name}.json").write_text(json.dumps(made))
    (tmp_path / "config.yaml").write_text(dump_config(load_config("toy")))
    (tmp_path / "status").write_text("done")
    (tmp_path / "summary.json").write_text('{"after.forget_probability": 0.5}')
    return tmp_path


@pytest.mark.parametrize(
    ("verb", "name", "text"),
    [
        ("report", "eval/after.json", '{"items": [{}], "summary": {}}'),
        ("report", "eval/after.json", json.dumps({"items": [ITEM | {"x": 1}], "summary": {}})),
        ("report", "eval/after.json", "[" * 100_000),
        ("report", "model.json", '{"width": "x"}'),
        ("report", "record.json", "5"),
        ("report", "env.json", "null"),
        ("report", "ledger.json", "[1]"),
        ("report", "config.yaml", "{"),
        ("compare", "summary.json", "[]"),
        ("compare", "summary.json", '{"after.forget_probability": "x"}'),
        ("compare", "config.yaml", "\0"),
    ],
)
def test_a_damaged_file_is_named(run, capsys, verb, name, text):
    (run / name).write_text(text)
    assert cli.main([verb, str(run)]) == 2
    said = capsys.readouterr().err
    assert str(run / name) in said
    assert "Traceback" not in said


@pytest.mark.parametrize("verb", ["report", "compare", "ask", "attack", "export", "unlearn"])
@pytest.mark.parametrize("kind", ["empty", "file", "missing"])
def test_what_is_no_run_is_refused(tmp_path, capsys, verb, kind):
    place = tmp_path / "it"
    if kind == "empty":
        place.mkdir()
    elif kind == "file":
        place.write_text("")
    more = {"ask": ["why?"], "export": [str(tmp_path / "out")]}
    words = ["--resume", str(place)] if verb == "unlearn" else [str(place), *more.get(verb, [])]
    assert cli.main([verb, *words]) == 2
    said = capsys.readouterr().err
    assert str(place) in said
    assert len(said.strip().splitlines()) == 1


def test_a_number_that_was_not_finite_is_compared_as_such(run):
    (run / "summary.json").write_text('{"after.forget_probability": null}')
    found = workflows.compare([run], console=Console(quiet=True))
    (spread,) = [ones["forget_probability"] for ones in found.values()]
    assert math.isnan(spread.mean)


def test_a_disk_that_runs_full_in_the_middle_is_one_sentence(tmp_path, monkeypatch):
    run = RunFolder.create(tmp_path, "run", config_yaml="")

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    said = rf"{run.path} cannot be written to: No space left .* --resume {run.path}"
    with (
        pytest.raises(CheckpointError, match=said),
        true_status(run, Console(quiet=True)),
        monkeypatch.context() as patch,
    ):
        patch.setattr(Journal, "append", full)
        full()


def test_what_ended_a_run_is_told_where_notes_on_it_find_no_room(tmp_path, monkeypatch):
    run = RunFolder.create(tmp_path, "run", config_yaml="")

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ZeroDivisionError), true_status(run, Console(quiet=True)):
        monkeypatch.setattr(Journal, "append", full)
        raise ZeroDivisionError


@pytest.mark.parametrize("verb", ["generate", "evaluate"])
@pytest.mark.parametrize("kind", ["other", "inside a file"])
def test_a_place_that_takes_no_results_is_refused_before_there_are_any(
    tmp_path, capsys, verb, kind
):
    file, out = tmp_path / "file", tmp_path
    file.write_text("precious")
    if kind != "other":
        out = file / "out"
    elif verb == "evaluate":
        out = file
    model = ["model.scratch=null", "model.weights=none", "eval.gold=false"]
    words = {"generate": ["toy", *model], "evaluate": ["none", "data.benchmark=toy"]}[verb]
    assert cli.main([verb, *words, "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert f"{out} " in said and "--out" in said and ("name a" in said or "is no folder" in said)
    assert file.read_text() == "precious"


def test_a_reference_that_is_not_there_is_refused_before_the_folder_is_made(
    tmp_path, capsys, overrides
):
    data = ["data.benchmark=tofu", f"data.dir={tmp_path}", "eval.gold=false"]
    row = json.dumps({"question": "Who?", "answer": "Ann."}) + "\n"
    for split in ("forget10", "retain90"):
        (tmp_path / f"{split}.json").write_text(row)
    words = [*overrides, *data, "eval.reference=nowhere", "--out", str(tmp_path / "run")]
    assert cli.main(["unlearn", "toy", *words]) == 2
    assert "eval.reference nowhere: no such log" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
