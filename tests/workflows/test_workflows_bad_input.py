# SPDX-License-Identifier: Apache-2.0
"""Run folders that are damaged: one sentence, exit code 2."""

import json
import math

import pytest

from unilogit_jax import cli, workflows
from unilogit_jax.config import dump_config, load_config
from unilogit_jax.run import Console

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
