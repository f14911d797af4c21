# SPDX-License-Identifier: Apache-2.0
"""Documents become rows of one length that hold every token once."""

import numpy as np
import pytest

from unilogit_jax.config import load_config
from unilogit_jax.data import Example, Task, encode_documents, train_tokenizer
from unilogit_jax.errors import DataError
from unilogit_jax.types import IGNORE
from unilogit_jax.workflows._rows import encode_rows

DOCUMENTS = [Example(None, f"Report {n}: rain fell on Oslo.\n\nNobody came.") for n in range(9)]
TEXT = "\n\n".join(document.answer for document in DOCUMENTS)


@pytest.fixture(params=["<|start|>", None])
def tokenizer(request):
    made = train_tokenizer([TEXT], vocab_size=300)
    if request.param:
        made.add_special_tokens({"bos_token": request.param})
    return made


@pytest.mark.parametrize("max_length", [8, 17])
def test_rows_hold_the_joined_text_in_order(tokenizer, max_length):
    rows = encode_documents(tokenizer, DOCUMENTS, max_length=max_length)
    begin = 0 if tokenizer.bos_token_id is None else 1
    ids = []
    for tokens, labels, length in zip(rows.tokens, rows.labels, rows.lengths, strict=True):
        assert begin == 0 or tokens[0] == tokenizer.bos_token_id
        assert labels[: length - 1].tolist() == tokens[1:length].tolist()
        assert (labels[length - 1 :] == IGNORE).all()
        ids += tokens[begin:length].tolist()
    assert ids == tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert (rows.lengths[:-1] == max_length).all() and rows.lengths[-1] <= max_length


def test_a_last_token_with_nothing_before_it_is_no_row():
    tokenizer = train_tokenizer(["abc"], vocab_size=258)
    rows = encode_documents(tokenizer, [Example(None, "qrstu")], max_length=2)
    assert [tokenizer.decode(t[:2]) for t in rows.tokens] == ["qr", "st"]


def test_no_documents_are_refused_by_their_name(tokenizer):
    with pytest.raises(DataError, match="no rows to forget"):
        encode_documents(tokenizer, [], max_length=8, what="rows to forget")


def test_a_task_of_documents_trains_on_them(tokenizer):
    task = Task("m", tuple(DOCUMENTS), tuple(DOCUMENTS[:4]), (), documents=True)
    experiment = load_config("toy", "data.max_length=16")
    rows = encode_rows(experiment, task, tokenizer)
    for found, documents in ((rows.forget, DOCUMENTS), (rows.retain, DOCUMENTS[:4])):
        wanted = encode_documents(tokenizer, documents, max_length=16)
        np.testing.assert_array_equal(found.tokens, wanted.tokens)
    assert len(rows.everything) == len(rows.forget) + len(rows.retain)
