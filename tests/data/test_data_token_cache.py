# SPDX-License-Identifier: Apache-2.0
"""Kept rows are those that encoding gives, and nothing that matters is left out of their name."""

from dataclasses import replace

import numpy as np
import pytest

from unilogit_jax.data import Example, encode_documents, train_tokenizer
from unilogit_jax.data import token_cache as cache
from unilogit_jax.data.encode import encode

TEXTS = ["Who was Vela Dorn?", "A baker in Lund.", "Where did Oska Prim live?", "In a red house."]
EXAMPLES = [Example("Who was Vela Dorn?", "A baker in Lund.", "row 1"), Example(None, TEXTS[3], "")]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, vocab_size=300)


@pytest.fixture
def counted(monkeypatch):
    """encode_cached, and how often it really encoded."""
    calls = []

    def count(*args, **options):
        calls.append(1)
        return encode(*args, **options)

    monkeypatch.setattr(cache, "encode", count)
    return calls


def same(a, b):
    return all(
        np.array_equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True)
    )


def rows(tokenizer, folder, examples=EXAMPLES, **options):
    return cache.encode_cached(tokenizer, examples, folder=folder, smallest=2, **options)


def test_rows_are_encoded_once_and_read_back_the_same(tokenizer, tmp_path, counted):
    wanted = encode(tokenizer, EXAMPLES)
    assert same(rows(tokenizer, tmp_path), wanted) and same(rows(tokenizer, tmp_path), wanted)
    assert len(counted) == 1
    assert [p.suffix for p in tmp_path.iterdir()] == [".npz"], "and no temporary file is left"


def test_whatever_the_rows_depend_on_makes_other_rows(tokenizer, tmp_path, counted):
    rows(tokenizer, tmp_path)
    changed = [replace(EXAMPLES[0], answer="A baker in Lund!"), EXAMPLES[1]]
    asked = [replace(EXAMPLES[0], question="Who was Vela?"), EXAMPLES[1]]
    shown = [replace(EXAMPLES[0], shots=(("Who?", "Vela."),)), EXAMPLES[1]]
    told = [replace(EXAMPLES[0], system="Be brief."), EXAMPLES[1]]
    other = train_tokenizer([*TEXTS, "zzz zzz"], vocab_size=301)
    for examples in (changed, asked, shown, told):
        rows(tokenizer, tmp_path, examples)
    rows(other, tmp_path)
    rows(tokenizer, tmp_path, max_length=40)
    rows(tokenizer, tmp_path, template="plain")
    rows(tokenizer, tmp_path, system="Be short.")
    chatty = train_tokenizer(TEXTS, vocab_size=300)
    chatty.chat_template = "{{ messages[0]['content'] }}{{ messages[1]['content'] }}"
    rows(chatty, tmp_path, template="plain")
    assert len(counted) == 10 == len(list(tmp_path.iterdir()))


def test_where_a_row_came_from_does_not_matter(tokenizer, tmp_path, counted):
    rows(tokenizer, tmp_path)
    rows(tokenizer, tmp_path, [replace(e, where="elsewhere") for e in EXAMPLES])
    assert len(counted) == 1


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a whole file", b"text"])
def test_a_damaged_file_is_made_again(tokenizer, tmp_path, counted, damage):
    wanted = rows(tokenizer, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage)
    assert same(rows(tokenizer, tmp_path), wanted) and same(rows(tokenizer, tmp_path), wanted)
    assert len(counted) == 2


def test_a_truncated_file_is_made_again(tokenizer, tmp_path, counted):
    wanted = rows(tokenizer, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-40])
    assert same(rows(tokenizer, tmp_path), wanted)
    assert len(counted) == 2


def test_a_folder_that_cannot_be_written_is_no_error(tokenizer, tmp_path):
    (tmp_path / "file").write_text("")
    assert same(rows(tokenizer, tmp_path / "file" / "x"), encode(tokenizer, EXAMPLES))


def test_few_rows_are_not_kept(tokenizer, tmp_path):
    cache.encode_cached(tokenizer, EXAMPLES, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_documents_are_kept_apart_from_rows_and_read_back(tokenizer, tmp_path, monkeypatch):
    plain = rows(tokenizer, tmp_path)
    wanted = encode_documents(tokenizer, EXAMPLES, max_length=6)
    first = rows(tokenizer, tmp_path, documents=True, max_length=6)
    monkeypatch.setattr(cache, "encode_documents", None)
    again = rows(tokenizer, tmp_path, documents=True, max_length=6)
    assert same(first, wanted) and same(again, wanted) and not same(plain, wanted)
    assert len(first) != len(EXAMPLES)
