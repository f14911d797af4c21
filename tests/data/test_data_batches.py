# SPDX-License-Identifier: Apache-2.0
"""The order of rows: complete passes, reproducible, resumable from one integer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unilogit_jax.data import Rows, finetune_batches, row_order, unlearning_batches
from unilogit_jax.types import FORGET, IGNORE, RETAIN


def rows(n, length, first=0):
    tokens = np.arange(n * length, dtype=np.int32).reshape(n, length) + first
    labels = np.where(np.arange(length) >= 2, tokens + 1, IGNORE).astype(np.int32)
    lengths = np.full(n, length - 1, np.int32)
    labels[:, -1] = IGNORE
    return Rows(tokens, labels, lengths)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(0, 100), st.integers(1, 50), st.integers(0, 5))
def test_any_window_of_the_stream_is_the_same_however_it_is_reached(n, start, count, seed):
    whole = row_order(n, 0, start + count, seed=seed, stream=0)
    assert np.array_equal(whole[start:], row_order(n, start, count, seed=seed, stream=0))


def test_every_pass_holds_each_row_once_and_passes_differ():
    order = row_order(50, 0, 150, seed=3, stream=1).reshape(3, 50)
    assert all(np.array_equal(np.sort(p), np.arange(50)) for p in order)
    assert not np.array_equal(order[0], order[1])


def test_forget_rows_come_first_and_sets_and_segments_say_so():
    batch = unlearning_batches(rows(5, 6), rows(9, 8, 100), batch_size=2, retain_size=3, seed=0)(4)
    assert batch.tokens.shape == (5, 8) and batch.num_segments == 6
    assert np.array_equal(batch.sets.max(1), [FORGET, FORGET, RETAIN, RETAIN, RETAIN])
    assert np.array_equal(batch.segments.max(1), [1, 2, 3, 4, 5])
    assert (batch.sets[:2, 5:] == 0).all() and (batch.segments[2:, 7:] == 0).all()
    assert np.array_equal(batch.weights, (batch.labels != IGNORE).astype(np.float32))


def test_without_retain_rows_the_batch_holds_the_forget_rows_alone():
    batch = unlearning_batches(rows(5, 6), None, batch_size=4, retain_size=8, seed=0)(0)
    assert batch.tokens.shape == (4, 6) and set(batch.sets.ravel()) == {0, FORGET}


def test_references_travel_with_their_rows():
    forget = rows(7, 6)
    batch_at = unlearning_batches(
        forget,
        rows(9, 8, 100),
        batch_size=3,
        retain_size=2,
        seed=1,
        references={FORGET: {"ref_log_odds": forget.tokens.astype(np.float32)}},
    )
    batch = batch_at(5)
    assert batch.ref_log_odds is not None
    assert np.array_equal(batch.ref_log_odds[:3, :6], batch.tokens[:3, :6])
    assert (batch.ref_log_odds[3:] == 0).all()


@pytest.mark.parametrize("i", [0, 3, 17])
def test_finetuning_draws_every_row_as_a_row_to_keep(i):
    batch = finetune_batches(rows(10, 6), batch_size=4, seed=0)(i)
    assert set(batch.sets.ravel()) == {0, RETAIN} and batch.tokens.shape == (4, 6)
