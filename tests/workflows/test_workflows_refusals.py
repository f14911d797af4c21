# SPDX-License-Identifier: Apache-2.0
"""Problems with data and weights are found before anything is written, and said in one sentence."""

import json

import jax
import pytest

from unilogit_jax import cli

GOOD = '{"question": "Who was Vela?", "answer": "A baker."}\n'


@pytest.fixture
def refused(tmp_path, capsys, overrides):
    """refused(*overrides) -> the message; exit code 2, no traceback, no run folder."""
    (tmp_path / "retain.jsonl").write_text(GOOD)

    def call(*words: str) -> str:
        out = tmp_path / "run"
        there = sorted(tmp_path.rglob("*"))
        assert cli.main(["unlearn", "toy", *overrides, *words, "--out", str(out)]) == 2
        message = capsys.readouterr().err
        assert "Traceback" not in message and message.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == there, "nothing was written"
        return message

    return call


def files(tmp_path, forget: str) -> tuple[str, ...]:
    (tmp_path / "forget.jsonl").write_text(forget)
    return (
        "data.benchmark=files",
        f"data.forget={tmp_path}/forget.jsonl",
        f"data.retain={tmp_path}/retain.jsonl",
    )


@pytest.mark.parametrize("bad", ["{broken", '["a list"]', '{"question": "Who?"}', '{"answer": ""}'])
def test_a_bad_row_is_named_by_its_line_with_what_was_expected(refused, tmp_path, bad):
    message = refused(*files(tmp_path, GOOD + bad + "\n"))
    assert "forget.jsonl" in message and "expected" in message and '{"text": ...}' in message
    assert "line 2" in message or "forget.jsonl:2" in message


def test_a_missing_file_is_refused_with_a_suggestion(refused, tmp_path):
    words = files(tmp_path, GOOD)
    message = refused(*words, f"data.forget={tmp_path}/forgot.jsonl")
    assert "not found" in message and "Did you mean 'forget.jsonl'?" in message


def test_an_empty_forget_set_is_refused(refused, tmp_path):
    assert "is empty" in refused(*files(tmp_path, "\n"))


def test_a_row_without_answer_after_cutting_is_refused(refused, tmp_path):
    row = json.dumps({"question": "zqx " * 200, "answer": "Yes."}) + "\n"
    message = refused(*files(tmp_path, GOOD + row), "data.max_length=16")
    assert "forget.jsonl" in message and "data.max_length" in message


def test_weights_that_are_not_there_are_refused(refused, tmp_path):
    words = ("model.scratch=null", "eval.gold=false", f"model.weights={tmp_path}/none")
    assert str(tmp_path / "none") in refused(*words[1:], *words[:1])


def test_a_missing_tofu_split_is_refused_with_what_is_there(refused, tmp_path):
    (tmp_path / "forget10.json").write_text(GOOD)
    message = refused("data.benchmark=tofu", f"data.dir={tmp_path}", "data.forget=forget11")
    assert " holds: forget10" in message and "Did you mean 'forget10'?" in message


def test_a_kernel_of_another_machine_is_refused(refused):
    assert "attention 'splash' runs on TPUs" in refused("model.attention=splash")


@pytest.mark.parametrize("place", ["_prepare.models.init", "_stages.init_state"])
def test_memory_that_ends_outside_of_an_update_is_answered_too(
    tmp_path, capsys, overrides, monkeypatch, place
):
    def full(*args, **options):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory: 9 bytes.\nmore")

    monkeypatch.setattr(f"unilogit_jax.workflows.{place}", full)
    run = tmp_path / "run"
    assert cli.main(["unlearn", "toy", *overrides, "--out", str(run)]) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message and message.count("\n") == 1
    assert "too little memory (RESOURCE_EXHAUSTED: Out of memory: 9 bytes.)" in message
    for key in ("model.remat", "unlearn.microbatches", "mesh"):
        assert key in message
    assert (run / "status").read_text().startswith("failed: ")


def test_a_batch_that_the_mesh_cannot_divide_is_refused(refused):
    assert "unlearn.batch_size" in refused("unlearn.batch_size=3", "mesh.fsdp=8")


@pytest.mark.parametrize("name", ["dpo", "idk", "idk_ap", "flat", "jensun"])
def test_a_file_of_refusals_that_is_not_there_or_empty_is_refused(refused, tmp_path, name):
    (tmp_path / "refusals.txt").write_text(" \n\n")
    words = ("unlearn.microbatches=1", f"method.name={name}")
    assert "refusals.txt is empty" in refused(*words, f"data.refusals={tmp_path}/refusals.txt")
    message = refused(*words, f"data.refusals={tmp_path}/refusal.txt")
    assert "not found" in message and "Did you mean 'refusals.txt'?" in message


def test_rows_without_other_answers_or_questions_are_refused_by_methods_that_need_them(
    refused, tmp_path
):
    message = refused(*files(tmp_path, GOOD), "method.name=altpo")
    assert "forget.jsonl" in message and '"alternates"' in message
    message = refused(*files(tmp_path, '{"text": "Vela was a baker."}\n'), "method.name=idk")
    assert "plain text is no question" in message


@pytest.mark.parametrize(
    ("name", "rows", "ratio"), [("dpo", 7, 2), ("altpo", 7, 2), ("idk_ap", 8, 0.875)]
)
def test_a_method_that_pairs_answers_refuses_parts_that_would_tear_them(refused, name, rows, ratio):
    words = (f"method.name={name}", "unlearn.microbatches=2")
    sizes = (f"unlearn.batch_size={rows}", f"unlearn.retain_ratio={ratio}")
    for more in (("unlearn.packing=64",), sizes):
        message = refused(*words, *more)
        assert f"method {name} joins two answers" in message and "unlearn.microbatches=1" in message


def test_the_rows_of_other_answers_count_when_a_batch_is_divided(refused):
    rows = ("unlearn.batch_size=4", "unlearn.retain_ratio=1")
    message = refused("method.name=dpo", *rows)
    assert "the rows of an update of method dpo, other answers included, = 12" in message
