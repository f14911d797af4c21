# SPDX-License-Identifier: Apache-2.0
"""Later requests: a run that goes on from another, and the ledger of all that was served."""

import hashlib
import json

import pytest

from unilogit_jax.cli import main
from unilogit_jax.config import load_config
from unilogit_jax.run import Console
from unilogit_jax.workflows import load_pretrained, unlearn

SMALL = (
    "model.scratch={width: 32, heads: 2, layers: 1, vocab_size: 300}",
    "finetune.steps=3",
    "unlearn.steps=2",
    "eval.gold=false",
    "eval.max_items=2",
    "eval.max_new_tokens=4",
)


def rows(path, names):
    lines = [json.dumps({"question": f"Who is {n}?", "answer": f"{n} is a baker."}) for n in names]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return tmp_path_factory.mktemp("requests")


@pytest.fixture(scope="module")
def first(places):
    forget = rows(places / "first.jsonl", ["Ann", "Bo"])
    retain = rows(places / "retain.jsonl", ["Cid", "Dot", "Eve"])
    files = f"data={{benchmark: files, forget: {forget}, retain: {retain}, max_length: 48}}"
    return unlearn(
        load_config("toy", files, *SMALL), out=places / "one", console=Console(quiet=True)
    )


def test_a_later_request_begins_where_the_run_ended(first, places, capsys):
    second = rows(places / "second.jsonl", ["Fay"])
    words = ["unlearn", "--continue", str(first.path), f"data.forget={second}", "unlearn.steps=1"]
    assert main([*words, "--out", str(places / "two")]) == 0
    before = json.loads((places / "one/summary.json").read_text())
    after = json.loads((places / "two/summary.json").read_text())
    kept = "retain_probability"
    assert after[f"before.{kept}"] == pytest.approx(before[f"after.{kept}"], abs=1e-9)
    assert load_pretrained(places / "two")[2].eos_token_id is not None
    ledger = json.loads((places / "two/ledger.json").read_text())
    assert [entry["request"] for entry in ledger] == [1, 2]
    assert [entry["rows"] for entry in ledger] == [2, 1]
    assert ledger[:1] == json.loads((places / "one/ledger.json").read_text())
    told = f"{'Who is Fay?'!r}\n{'Fay is a baker.'!r}\n"
    assert ledger[1]["sha256"] == hashlib.sha256(told.encode()).hexdigest()
    assert "Fay" not in (places / "two/ledger.json").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say what to forget now"),
        (["toy", "data.forget=x"], "drop CONFIG"),
        (["data.forget=nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_what_cannot_be_continued_is_refused(first, capsys, words, said):
    assert main(["unlearn", "--continue", str(first.path), *words]) == 2
    assert said in capsys.readouterr().err


def test_an_unfinished_run_is_not_continued(first, places, capsys):
    status = first.status_file.read_text()
    first.status_file.write_text("running")
    try:
        assert main(["unlearn", "--continue", str(first.path), "data.forget=x"]) == 2
    finally:
        first.status_file.write_text(status)
    assert "not finished (running)" in capsys.readouterr().err
