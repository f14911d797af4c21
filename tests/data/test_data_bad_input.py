# SPDX-License-Identifier: Apache-2.0
"""Whatever stands in a data file: it is rows, or is refused as a DataError."""

import gzip
import json
import os
import time

import pyarrow
import pyarrow.parquet
import pytest
from bad_input import few, trees
from hypothesis import given
from hypothesis import strategies as st

from unilogit_jax.data.read import read_examples, read_lines, read_texts
from unilogit_jax.errors import DataError

ROW = '{"question": "q", "answer": "a"}'
NAMES = st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.txt", "a.csv.gz", "a"])
FIELDS = ["question", "answer", "text", "messages", "alternates", "names", "role", "content"]
tree = trees(FIELDS, odd=["\ud800", "user", "assistant", "\u2028", "\0"], leaves=8)


def read(path):
    for reader in (read_examples, read_texts, read_lines):
        try:
            rows = reader(path)
        except DataError as error:
            assert "\n" not in str(error)
        else:
            repr(rows).encode()  # no half characters
            assert rows
            assert all(row.answer.encode() for row in rows if not isinstance(row, str))


@few(80)
@given(name=NAMES, data=st.binary(max_size=60), packed=st.booleans())
def test_any_bytes(tmp_path_factory, name, data, packed):
    path = tmp_path_factory.mktemp("any") / name
    path.write_bytes(gzip.compress(data) if packed else data)
    read(path)


@few(80)
@given(
    name=NAMES,
    rows=st.lists(tree, max_size=3),
    between=st.sampled_from(["\n", "\r\n", " "]),
    escaped=st.booleans(),
    listed=st.booleans(),
)
def test_any_json(tmp_path_factory, name, rows, between, escaped, listed):
    texts = [json.dumps(row, ensure_ascii=escaped) for row in rows]
    text = f"[{', '.join(texts)}]" if listed else between.join(texts)
    path = tmp_path_factory.mktemp("any") / name
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    read(path)


@few(80)
@given(text=st.text(st.sampled_from('question,answer\n\r"\0 x'), max_size=40))
def test_any_csv(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "a.csv"
    path.write_bytes(f"question,answer\n{text}".encode())
    read(path)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.jsonl", ROW + "\n" + '{"a":' * 100_000, "line 2: nested too deeply"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.jsonl", '{"x": ' + "9" * 5000 + "}", "a number of more digits"),
        ("a.jsonl", '{"question": "\\ud800", "answer": "a"}', "line 1: a text holds half a char"),
        ("a.csv", 'question,answer\nq,"a\nr,b\n', "cannot be read as CSV: unexpected end"),
        ("a.csv", "question,question,answer\nq,r,a\n", "the column 'question' is there twice"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        read_examples(tmp_path / name)
    assert words in str(caught.value)


def test_line_ends_of_other_kinds_do_not_split_a_row(tmp_path):
    (tmp_path / "a.jsonl").write_bytes((ROW.replace("q", "q\u2028\x85r", 2) + "\r\n").encode())
    (tmp_path / "b.jsonl").write_bytes(f"\ufeff{ROW}\r\n\r\n{ROW}".encode())
    assert len(read_lines(tmp_path / "a.jsonl")) == 1
    assert [row.answer for row in read_examples(tmp_path / "b.jsonl")] == ["a", "a"]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt"])
def test_a_document_of_a_million_words_is_a_row(tmp_path, name):
    words = "word " * 1_000_000
    head, row = ("text\n", words) if name == "a.csv" else ("", json.dumps({"text": words}))
    (tmp_path / name).write_text(f"{head}{row if name != 'a.txt' else words}")
    began = time.monotonic()
    (row,) = read_texts(tmp_path / name)
    assert row.answer.strip() == words.strip()
    assert time.monotonic() - began < 20


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("folder", "pipe"):
        with pytest.raises(DataError, match="is a folder or a device"):
            read_examples(tmp_path / name)
    for name in ("loop", "none", "none/none", "folder/x"):
        with pytest.raises(DataError, match=r"not found|cannot be read") as caught:
            read_examples(tmp_path / name)
        assert f"'{name}'" not in str(caught.value)
    with pytest.raises(DataError, match="File name too long"):
        read_examples(tmp_path / ("x" * 5000))


@pytest.mark.parametrize("cut", [0, 1, 9, 100])
def test_parquet_that_is_empty_or_cut_short_is_refused(tmp_path, cut):
    path = tmp_path / "a.parquet"
    columns = {"text": pyarrow.array([], pyarrow.string())}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    path.write_bytes(path.read_bytes()[: -cut or None])
    with pytest.raises(DataError, match="cannot be read as parquet" if cut else "is empty"):
        read_examples(path)
