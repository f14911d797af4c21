# SPDX-License-Identifier: Apache-2.0
"""Packed rows: every example whole and once, nothing added, little padding, the same every time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unilogit_jax.data import PackingWish, Rows, finetune_batches, row_order, unlearning_batches
from unilogit_jax.data.packing import balanced_order, pack, plan_packing
from unilogit_jax.types import FORGET, IGNORE, RETAIN


def rows(n, seed, low=5, high=40):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(low, high + 1, n).astype(np.int32)
    tokens = rng.integers(1, 1000, (n, high)).astype(np.int32)
    labels = np.full((n, high), IGNORE, np.int32)
    for r, size in enumerate(lengths):
        tokens[r, size:] = 0
        labels[r, 3 : size - 1] = tokens[r, 4:size]
    return Rows(tokens, labels, lengths)


def batches(**options):
    forget, retain = rows(30, 0), rows(50, 1, high=25)
    reference = forget.tokens.astype(np.float32) / 7
    return forget, unlearning_batches(
        forget,
        retain,
        batch_size=6,
        retain_size=9,
        seed=4,
        references={FORGET: {"ref_log_odds": reference}},
        **options,
    )


def examples(batch):
    """(set, tokens, labels, references) of each example, in the order of their numbers."""
    found = []
    for number in range(1, batch.num_segments):
        r, t = np.nonzero(batch.segments == number)
        assert (r == r[0]).all() and (np.diff(t) == 1).all(), "whole, in one row"
        assert batch.positions[r, t].tolist() == list(range(len(t)))
        fields = (batch.sets, batch.tokens, batch.labels, batch.weights, batch.ref_log_odds)
        found.append([x[r, t].tolist() for x in fields])
    return found


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=40))
def test_examples_are_packed_without_overlap(sizes):
    lengths = np.array(sizes)
    places, count = pack(lengths, 30)
    taken = np.zeros((count, 30), int)
    for size, row, start in zip(sizes, places.rows, places.starts, strict=True):
        taken[row, start : start + size] += 1
    assert taken.max() == 1 and taken.sum() == sum(sizes)
    # First-fit decreasing needs at most 11/9 of the best, plus 6/9.
    assert count <= 11 / 9 * -(-sum(sizes) // 30) + 6 / 9 or count <= len(sizes)


def test_a_packed_batch_holds_the_examples_of_the_padded_one():
    _, packed = batches(packing=PackingWish(updates=8, length=64, multiple=2))
    plan = packed.packing
    assert plan.rows % 2 == 0 and plan.efficiency > 0.8
    for i in range(8):
        batch = packed(i)
        assert batch.tokens.shape == (plan.rows, plan.length)
        padded = type(packed)(packed.streams)(i)
        assert examples(batch) == examples(padded)
        outside = batch.segments == 0
        assert not batch.weights[outside].any() and (batch.labels[outside] == IGNORE).all()
        assert not batch.ref_log_odds[outside].any() and not batch.sets[outside].any()


def test_a_plan_is_as_small_as_it_says_and_fits_every_update():
    rng = np.random.default_rng(0)
    updates = [rng.integers(20, 90, 32) for _ in range(50)]
    plan = plan_packing(updates, length=256, multiple=4)
    assert plan.rows % 4 == 0
    assert all(pack(u, plan.length)[1] <= plan.rows for u in updates)
    assert not all(pack(u, plan.length - 16)[1] <= plan.rows for u in updates)
    real = sum(u.sum() for u in updates) / 50
    assert plan.efficiency == pytest.approx(real / (plan.rows * plan.length))


@pytest.mark.parametrize(("n", "window"), [(400, 16), (37, 8), (5, 8), (9, 9)])
def test_balanced_passes_hold_each_row_once_with_even_neighbours(n, window):
    lengths = np.random.default_rng(1).gamma(4, 20, n).astype(np.int32) + 10
    order = balanced_order(lengths, window, np.random.default_rng(2))
    assert np.array_equal(np.sort(order), np.arange(n))
    size = min(window, n)

    def spread(order):
        sums = [lengths[order[k : k + size]].sum() for k in range(n - size + 1)]
        return np.std(sums)

    plain = np.random.default_rng(2).permutation(n)
    assert n <= size or spread(order) < 0.5 * spread(plain)


def test_every_row_is_as_likely_at_every_place():
    lengths = np.array([1, 2, 3, 4, 5, 6])
    first = [balanced_order(lengths, 2, np.random.default_rng(k))[0] for k in range(6000)]
    shares = np.bincount(first, minlength=6) / 6000
    assert np.abs(shares - 1 / 6).max() < 0.02


def test_balanced_streams_are_complete_passes_too():
    lengths = rows(50, 0).lengths
    order = row_order(50, 0, 150, seed=3, stream=1, balance=lengths).reshape(3, 50)
    assert all(np.array_equal(np.sort(p), np.arange(50)) for p in order)
    assert not np.array_equal(order[0], order[1])


def test_drawn_retain_rows_are_fresh_for_every_update_and_never_twice_in_one():
    forget, retain = rows(30, 0), rows(12, 1)
    at = unlearning_batches(
        forget, retain, batch_size=2, retain_size=8, seed=0, sampling="drawn"
    ).streams[1]
    seen = [at.picks(i) for i in range(200)]
    assert all(len(set(p.tolist())) == 8 for p in seen)
    counts = np.bincount(np.concatenate(seen), minlength=12)
    assert counts.min() > 90 and len({tuple(p) for p in seen}) == 200
    many = unlearning_batches(
        forget, retain, batch_size=2, retain_size=30, seed=0, sampling="drawn"
    )
    assert len(many.streams[1].picks(3)) == 30


def test_finetuning_rows_are_packed_as_rows_to_keep():
    packed = finetune_batches(rows(20, 2), batch_size=7, seed=0, packing=PackingWish(updates=9))
    batch = packed(8)
    assert set(batch.sets.ravel()) <= {0, RETAIN} and batch.num_segments == 8
    assert packed.packing.rows == 1


def test_forget_and_retain_keep_their_sets():
    _, packed = batches(packing=PackingWish(updates=3, length=64))
    sets = [s[0] for s, *_ in examples(packed(2))]
    assert sets == [FORGET] * 6 + [RETAIN] * 9


def test_answers_of_usual_lengths_leave_less_than_a_twentieth_of_the_positions_empty():
    """Lengths like TOFU's: 57 tokens on average, some three times as long."""
    rng = np.random.default_rng(0)

    def like_tofu(n):
        lengths = np.clip(rng.lognormal(4.0, 0.35, n), 15, 180).astype(np.int32)
        empty = np.full((n, 180), IGNORE, np.int32)
        return Rows(np.zeros((n, 180), np.int32), empty, lengths)

    wish = PackingWish(updates=125)
    packed = unlearning_batches(
        like_tofu(400), like_tofu(3600), batch_size=16, retain_size=16, seed=0, packing=wish
    )
    assert packed.packing.efficiency > 0.95
