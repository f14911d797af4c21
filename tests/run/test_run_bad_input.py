# SPDX-License-Identifier: Apache-2.0
"""Whatever stands in the files of a run: it is what a run writes, or refused by the file's name."""

import json

import pytest
from bad_input import few, trees
from hypothesis import given
from hypothesis import strategies as st

from unilogit_jax.errors import CheckpointError
from unilogit_jax.run import MetricsLog, RunFolder
from unilogit_jax.run.files import read_json, read_numbers
from unilogit_jax.run.ledger import read_ledger
from unilogit_jax.run.record import read_record
from unilogit_jax.run.shapes import Env, Page
from unilogit_jax.run.trackers import _identity

KEYS = ["data", "forget", "rows", "stages", "stage", "step", "started", "a.b", "weights", "loss"]
tree = trees(KEYS, leaves=6)
READERS = {
    "record.json": lambda run: read_record(run),
    "ledger.json": lambda run: read_ledger(run),
    "summary.json": lambda run: read_numbers(run / "summary.json"),
    "env.json": lambda run: read_json(run / "env.json", Env),
    "trackers.json": _identity,
    "attack.json": lambda run: read_json(run / "attack.json", Page),
    "metrics.jsonl": lambda run: MetricsLog.read(run / "metrics.jsonl"),
}


def told(run, name, text) -> str:
    """What is wrong with a file; empty if nothing is."""
    (run / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        READERS[name](run)
    except CheckpointError as error:
        assert name in str(error)
        return str(error)
    return ""


@few(80)
@given(name=st.sampled_from(sorted(READERS)), value=tree)
def test_any_json(tmp_path_factory, name, value):
    told(
        tmp_path_factory.mktemp("run"), name, f"{json.dumps(value)}\n{json.dumps(value)}\n"[: 10**6]
    )
    told(tmp_path_factory.mktemp("run"), name, json.dumps(value))


@pytest.mark.parametrize(
    ("name", "value", "place"),
    [
        ("record.json", [], "its content"),
        ("record.json", {"data": {"forget": {"rows": "3", "sha256": ""}}}, "data.forget.rows"),
        ("record.json", {"devices": {"mesh": 5}}, "devices"),
        ("ledger.json", {"a": 1}, "its content"),
        ("ledger.json", [{}], "0."),
        ("summary.json", {"after.forget_nll": "x"}, "after.forget_nll"),
        ("summary.json", {"seconds.target": float("inf")}, "seconds.target"),
        ("env.json", {"started": "yesterday"}, "started"),
        ("attack.json", {"rows": [5], "curves": [], "settings": {}}, "rows.0"),
        ("trackers.json", {}, "id"),
    ],
)
def test_the_place_is_named(tmp_path, name, value, place):
    assert f"{name} is damaged at '{place}" in told(tmp_path, name, json.dumps(value))


@pytest.mark.parametrize("name", sorted(READERS))
def test_nesting_without_end_is_damage(tmp_path, name):
    assert "damaged" in told(tmp_path, name, "[" * 100_000 + "\n{}\n")


@pytest.mark.parametrize(
    "line", ["{}", '{"stage": "a", "step": "x"}', '{"stage": "a", "step": 1, "loss": []}', "[]"]
)
def test_a_line_of_metrics_that_no_run_writes_is_named(tmp_path, line):
    good = '{"stage": "a", "step": 1, "non_finite": "x\u2028y"}'
    assert told(tmp_path, "metrics.jsonl", f"{good}\n{good}\n") == ""
    assert "line 2 is damaged" in told(tmp_path, "metrics.jsonl", f"{good}\n{line}\n{good}\n")


def test_a_status_that_is_no_text_is_shown_as_far_as_it_goes(tmp_path):
    (tmp_path / "status").write_bytes(b"do\xffne")
    assert RunFolder(tmp_path).status == "do\ufffdne"
