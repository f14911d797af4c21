# SPDX-License-Identifier: Apache-2.0
"""Plain text by lines or as JSON, files packed with gzip, and cells of CSV."""

import gzip
import json

import pytest

from unilogit_jax.data import read_examples, read_texts
from unilogit_jax.errors import DataError

ROWS = [{"question": "Who?", "answer": "Ann."}, {"question": "Line\u2028break?", "answer": "Yes."}]


def answers(rows):
    return [row.answer for row in rows]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a"])
def test_lines_that_are_no_json_are_texts(tmp_path, name):
    path = tmp_path / name
    path.write_text('[1] A town.\n\n{a: 1}\n  two "quotes"\u2028here\n', encoding="utf-8")
    rows = read_texts(path)
    assert answers(rows) == ["[1] A town.", "{a: 1}", '  two "quotes"\u2028here']
    assert all(row.question is None for row in rows) and rows[1].where == f"{path}:3"


@pytest.mark.parametrize(
    "text",
    ['{"text": "One."}\n{"text": "Two."}', ' [ "One.", "Two." ]', '[{"text": "One."}, "Two."]'],
)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_json_is_parsed_and_never_read_as_text(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    assert answers(read_texts(path)) == ["One.", "Two."]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"content": "One."}', "'question' is missing"),
        ('{"text": "One.', "not valid JSON"),
        ('{"text": "One."}\nTwo.', "line 2: not valid JSON"),
        ('One.\n{"text": "Two."}', ":2 is JSON, but the file begins with plain text"),
        ("\n \n", "is empty"),
    ],
)
def test_json_of_another_form_and_mixtures_are_refused(tmp_path, text, message):
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_texts(path)


def csv_of(rows):
    return "question,answer\n" + "\n".join(f'"{r["question"]}","{r["answer"]}"' for r in rows)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "b.json.gz", "c.csv.gz", "d.jsonl"])
def test_packed_files_give_the_rows_of_unpacked_ones(tmp_path, name):
    texts = {
        "b.json.gz": json.dumps(ROWS),
        "c.csv.gz": csv_of(ROWS),
    }
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
    (tmp_path / name).write_bytes(gzip.compress(texts.get(name, lines).encode()))
    read = read_examples(tmp_path / name)
    assert [(row.question, row.answer) for row in read] == [tuple(row.values()) for row in ROWS]


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:12] + b"x" * 40])
def test_a_damaged_packed_file_is_one_sentence(tmp_path, damage):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(damage(gzip.compress(json.dumps(ROWS).encode())))
    with pytest.raises(DataError, match=r"a\.jsonl\.gz is a damaged gz file"):
        read_examples(path)


def test_cells_are_texts_and_may_hold_lines_commas_and_numbers(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('\ufeffquestion,answer,note\n"How\nmany, then?",7,\nWho?,Ann.,x,surplus\n')
    rows = read_examples(path)
    assert [(row.question, row.answer) for row in rows] == [
        ("How\nmany, then?", "7"),
        ("Who?", "Ann."),
    ]
    path.write_text("question,answer\nWho?,\n")
    with pytest.raises(DataError, match=r"a\.csv:2: 'answer' is missing"):
        read_examples(path)
