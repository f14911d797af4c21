# SPDX-License-Identifier: Apache-2.0
"""Data files: what is accepted, and what a wrong row is told."""

import gzip
import json

import pytest

from unilogit_jax.data import read_examples
from unilogit_jax.errors import DataError

GOOD = {"question": "Who?", "answer": "Ann."}


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_json_lines_json_lists_csv_and_parquet_give_the_same_rows(tmp_path):
    import datasets

    rows = [GOOD, {"question": "Line\u2028break?", "answer": "Yes,\nit is."}]
    lines = write(tmp_path / "a.jsonl", "\n".join(json.dumps(r, ensure_ascii=False) for r in rows))
    listed = write(tmp_path / "b.json", "\ufeff" + json.dumps(rows, indent=1))
    table = datasets.Dataset.from_list(rows)
    table.to_csv(str(tmp_path / "c.csv"))
    table.to_parquet(str(tmp_path / "d.parquet"))
    wanted = [(r["question"], r["answer"]) for r in rows]
    for path in (lines, listed, tmp_path / "c.csv", tmp_path / "d.parquet"):
        assert [(e.question, e.answer) for e in read_examples(path)] == wanted, path


def test_text_rows_have_no_question(tmp_path):
    (example,) = read_examples(write(tmp_path / "a.jsonl", '{"text": "Plain words."}\n'))
    assert example.question is None and example.answer == "Plain words."


def test_rows_may_say_whom_they_are_about(tmp_path):
    rows = [GOOD, GOOD | {"names": ["Ann", "A."]}, {"text": "Ann.", "names": ["Ann"]}]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert [e.names for e in read_examples(path)] == [(), ("Ann", "A."), ("Ann",)]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{broken", ["line 2", "not valid JSON", "column 2", '"question"']),
        ("[1, 2]", ["line 2", "expected", "got list"]),
        ('{"question": "Who?"}', ["a.jsonl:2", "'answer' is missing"]),
        ('{"question": "Who?", "anwser": "x"}', ["Did you mean 'anwser'?"]),
        ('{"question": "Who?", "answer": 3}', ["a.jsonl:2", "'answer' must be text"]),
        ('{"text": "Ann.", "names": "Ann"}', ["a.jsonl:2", "'names' must be a list"]),
        ('{"text": "  "}', ["a.jsonl:2", "'text' must be text"]),
    ],
)
def test_a_wrong_row_is_named_with_its_line_and_what_was_expected(tmp_path, row, words):
    path = write(tmp_path / "a.jsonl", f"{json.dumps(GOOD)}\n{row}\n")
    with pytest.raises(DataError) as error:
        read_examples(path)
    for word in words:
        assert word in str(error.value)


def test_a_missing_file_is_named_with_its_near_neighbour(tmp_path):
    write(tmp_path / "forget10.json", json.dumps(GOOD))
    with pytest.raises(DataError, match=r"not found.*Did you mean 'forget10.json'"):
        read_examples(tmp_path / "forget1.json")


def test_an_empty_file_and_a_file_that_is_not_text_are_refused(tmp_path):
    with pytest.raises(DataError, match="is empty"):
        read_examples(write(tmp_path / "a.jsonl", "\n\n"))
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        read_examples(tmp_path / "b.jsonl")


def test_a_list_of_texts_is_rows_of_text(tmp_path):
    texts = ["Plain words.", "Two\nlines."]
    listed = write(tmp_path / "a.json", json.dumps(texts))
    lines = write(tmp_path / "b.jsonl", "\n".join(json.dumps(text) for text in texts))
    for path in (listed, lines):
        assert [(e.question, e.answer) for e in read_examples(path)] == [(None, t) for t in texts]


def test_packed_text_is_read_whatever_its_ending_and_damage_is_said(tmp_path):
    packed = gzip.compress(json.dumps([GOOD]).encode())
    for name in ("a.json", "a.jsonl.gz"):
        (tmp_path / name).write_bytes(packed)
        assert [e.answer for e in read_examples(tmp_path / name)] == ["Ann."]
    for damaged in (packed[:-9], packed[:12] + b"\xff\xff\xff" + packed[15:], packed[:3]):
        (tmp_path / "b.json.gz").write_bytes(damaged)
        with pytest.raises(DataError, match=r"b.json.gz is a damaged gz file .*download it again"):
            read_examples(tmp_path / "b.json.gz")
