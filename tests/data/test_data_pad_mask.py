# SPDX-License-Identifier: Apache-2.0
"""Which token is hidden, and that batches mark it in texts and nowhere else."""

from types import SimpleNamespace

import numpy as np
import pytest

from unilogit_jax.data import Packing, Rows, assemble, assemble_packed, unseen_token
from unilogit_jax.types import FORGET, IGNORE, RETAIN

END = 9
SETS = np.array([FORGET, FORGET, RETAIN], np.int32)


def rows(tokens, lengths, unseen):
    tokens = np.array(tokens, np.int32)
    labels = np.full_like(tokens, IGNORE)
    labels[:, 1:-1] = tokens[:, 2:]
    return Rows(tokens, labels, np.array(lengths, np.int32), unseen)


def forget(unseen):
    return rows([[1, END, 3, 4, END, END], [END, 2, END, 0, 0, 0]], [5, 3], unseen)


@pytest.mark.parametrize(
    ("pad", "pad_mask", "wanted"),
    [(None, "exact", None), (None, "eos_as_pad", END), (4, "eos_as_pad", 4), (4, "exact", None)],
)
def test_the_pad_token_is_hidden_or_else_the_end_token(pad, pad_mask, wanted):
    tokenizer = SimpleNamespace(pad_token_id=pad, eos_token_id=END)
    assert unseen_token(tokenizer, pad_mask) == wanted


@pytest.mark.parametrize("packing", [None, Packing(2, 8, 1.0)])
def test_a_batch_marks_the_token_within_texts_and_changes_nothing_else(packing):
    def batch(unseen, other):
        kept = rows([[5, END, 6, 7]], [4], other)
        parts = [(forget(unseen), np.arange(2), {}), (kept, np.arange(1), {})]
        if packing is None:
            return assemble(parts, SETS)
        return assemble_packed(parts, SETS, packing)

    plain, marked = batch(None, None), batch(END, None)
    assert plain.unseen is None
    marks = [marked.unseen[marked.segments == n].tolist() for n in (1, 2, 3)]
    assert marks == [
        [False, True, False, False, True],
        [True, False, True],
        [False] * 4,
    ], "each part has a token of its own to hide, or none"
    assert not marked.unseen[marked.segments == 0].any()
    assert batch(END, END).unseen.sum() == 5
    for name in ("tokens", "labels", "segments", "positions", "sets", "weights"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(marked, name))


def test_rows_that_are_joined_hide_the_same_token():
    assert forget(END).joined(forget(END)).unseen == END
    assert forget(None).joined(forget(None)).unseen is None
