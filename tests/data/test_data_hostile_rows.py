# SPDX-License-Identifier: Apache-2.0
"""Rows that would fill the memory, or that can be read in two ways, are refused."""

import gzip
import json
import tracemalloc

import pytest

from unilogit_jax.data import read, read_examples, read_texts
from unilogit_jax.errors import DataError

ROW = '{"question": "q", "answer": "a"}'
TWICE = '{"question": "q", "answer": "a", "question": "r"}'


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz", "a.txt"])
def test_a_small_file_that_unpacks_to_a_huge_one_is_refused_in_little_memory(
    tmp_path, monkeypatch, name
):
    (tmp_path / name).write_bytes(gzip.compress(b"0" * (100 << 20)))
    monkeypatch.setattr(read, "UNPACKED", 1 << 20)
    tracemalloc.start()
    with pytest.raises(DataError, match=f"{name} unpacks to more than 9 MiB, .* with gunzip"):
        read_texts(tmp_path / name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


def test_text_that_packs_well_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "UNPACKED", 1 << 20)
    (tmp_path / "a.gz").write_bytes(gzip.compress(f"{ROW}\n".encode() * 5_000))
    assert len(read_examples(tmp_path / "a.gz")) == 5_000
    assert (tmp_path / "a.gz").stat().st_size * read.RATIO < len(ROW) * 5_000 < 1 << 20


def test_a_file_of_several_packed_parts_is_read_whole(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(f"{ROW}\n".encode()) * 3)
    assert len(read_examples(tmp_path / "a.gz")) == 3


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.jsonl", f"{ROW}\n\n{TWICE}\n{ROW}", "a.jsonl, line 3: 'question' is there twice; keep"),
        ("a.json", f"[{ROW}, \n {TWICE}]", "a.json, item 1: 'question' is there twice; keep"),
        ("a.json", f'["text [,]", [{ROW}, 3], {TWICE}]', "a.json, item 2: 'question' is there"),
        (
            "a.jsonl",
            '{"messages": [{"role": "user", "content": "q", "role": "assistant"}]}',
            "a.jsonl, line 1: 'role' is there twice",
        ),
        (
            "a.jsonl",
            '{"text": "t", "note": {"a\\n": 1, "a\\n": 1}}',
            r"line 1: 'a\n' is there twice",
        ),
    ],
)
def test_a_key_twice_in_a_row_is_refused_with_its_place(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        read_examples(tmp_path / name)
    assert words in str(caught.value)
    assert json.loads(TWICE)["question"] == "r"  # what Python alone would have taken
