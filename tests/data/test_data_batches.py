# SPDX-License-Identifier: Apache-2.0
"""The order of rows: complete passes, reproducible, resumable from one integer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unilogit_jax.data import (
    PackingWish,
    Rows,
    finetune_batches,
    row_order,
    unlearning_batches,
)
from unilogit_jax.types import ALTERNATE, FORGET, IGNORE, RETAIN, RETAIN_ALTERNATE


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


def numbered(n, length, hundreds):
    """Rows whose every token says which row it is."""
    tokens = np.broadcast_to(np.arange(n, dtype=np.int32)[:, None] + 100 * hundreds, (n, length))
    labels = np.where(np.arange(length) >= 2, tokens, IGNORE).astype(np.int32)
    return Rows(tokens.copy(), labels, np.full(n, length, np.int32))


def with_answers(choices, packing=None, with_forget=True):
    return unlearning_batches(
        numbered(5, 6, 1),
        numbered(9, 8, 2),
        batch_size=4,
        retain_size=8,
        seed=1,
        packing=packing,
        alternates={ALTERNATE: numbered(5 * choices, 7, 3), RETAIN_ALTERNATE: numbered(9, 5, 4)},
        with_forget=with_forget,
    )


def examples(batch):
    """Segment -> (set, row, partner); every token of a segment says the same."""
    found = {}
    for segment in range(1, batch.num_segments):
        on = batch.segments == segment
        seen = {*zip(batch.sets[on], batch.tokens[on] % 100, batch.partners[on], strict=True)}
        (found[segment],) = seen
    return found


@pytest.mark.parametrize("packing", [None, PackingWish(updates=12, length=24)])
@pytest.mark.parametrize("choices", [1, 2, 3])
def test_other_answers_follow_the_rows_of_their_questions(choices, packing):
    batch_at, passes = with_answers(choices, packing), {}
    for i in range(12):
        found = examples(batch_at(i))
        assert sorted(which for which, _, _ in found.values()) == (
            [FORGET] * 4 + [RETAIN] * 8 + [ALTERNATE] * 4 + [RETAIN_ALTERNATE] * 8
        )
        for segment, (which, row, partner) in found.items():
            other, answer, back = found[partner]
            assert back == segment
            if which == FORGET:
                k = passes[row] = passes.get(row, -1) + 1
                assert (other, answer) == (ALTERNATE, row * choices + k % choices)
            if which == RETAIN:
                assert (other, answer) == (RETAIN_ALTERNATE, row)
    assert max(passes.values()) >= 8, "several passes, so every choice had its turn"


def test_other_answers_come_without_the_forget_rows_too():
    whole, alone = with_answers(2)(3), with_answers(2, with_forget=False)(3)
    kept = {(which, row) for which, row, _ in examples(whole).values() if which != FORGET}
    found = examples(alone)
    assert {(which, row) for which, row, _ in found.values()} == kept
    for segment, (which, _, partner) in found.items():
        # Nothing answers the questions of the missing rows; the others keep their pairs.
        assert (partner == 0) == (which == ALTERNATE)
        assert partner == 0 or found[partner][2] == segment


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_padded_pairs_stay_together_in_every_part_of_a_batch(parts):
    found = examples(with_answers(2)(1))
    # Rows `parts` apart from each other form a part, and example n is row n - 1.
    assert all((segment - partner) % parts == 0 for segment, (_, _, partner) in found.items())
