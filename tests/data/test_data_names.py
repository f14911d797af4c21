# SPDX-License-Identifier: Apache-2.0
"""Other names for people: drawn from a pool, found in a text, and what is refused."""

import pytest

from unilogit_jax.data import Example, draw_names, name_spans
from unilogit_jax.errors import DataError

POOL = [f"{first} {last}" for first in ("Bo", "Cy", "Di") for last in ("Kay", "Orr", "Pim")]
ANN = Example("Who is Ann Lee?", "Lee is a nurse.", names=("Ann Lee", "Lee"))


def test_each_of_a_rows_names_is_another_one_every_time():
    both = Example("Does Ann Lee know Eve Roy?", "Yes.", names=("Ann Lee", "Eve Roy"))
    rows = draw_names([both, ANN], [*POOL, *POOL, "Ann Lee", "Eve Roy"], count=8, seed=3)
    assert [len(ways) for ways in rows] == [8, 8]
    for name in both.names:
        drawn = [way[name] for way in rows[0]]
        assert len(set(drawn)) == 8 and set(drawn) <= set(POOL)
    assert all(len(set(way.values())) == 2 for way in rows[0]), "two people stay two"


def test_the_seed_alone_decides():
    def draw(seed):
        return draw_names([ANN, ANN], POOL, count=4, seed=seed)

    assert draw(1) == draw(1) != draw(2)
    assert draw(1)[0] != draw(1)[1], "every row has draws of its own"


@pytest.mark.parametrize(
    ("part", "whole", "wanted"),
    [
        ("Lee", "Ann Lee", "Kay"),
        ("Ann", "Ann Lee", "Bo"),
        ("Maria Lee", "Ann Maria Lee", "Bo Kay"),
        ("Maria", "Ann Maria Lee", "Kay"),
    ],
)
def test_a_part_of_a_name_becomes_that_part_of_the_other(part, whole, wanted):
    row = Example(None, f"{whole}. {part}.", names=(part, whole))
    assert draw_names([row], ["Bo Kay"], count=1, seed=0) == [[{whole: "Bo Kay", part: wanted}]]


def test_names_are_found_as_whole_words_the_longest_first():
    text = "Ann Lee's sister Anna Leeds knows Ann, and Lee. ann lee"
    found = [text[begin:end] for begin, end in name_spans(text, ["Ann", "Lee", "Ann Lee"])]
    assert found == ["Ann Lee", "Ann", "Lee"]
    assert name_spans("Is it A.B. (C)?", ["A.B. (C)"]) == [(6, 14)]


@pytest.mark.parametrize(
    ("rows", "pool", "words"),
    [
        ([ANN, Example("Who?", "Ann.", "f.jsonl:2")], POOL, r'f.jsonl:2: .*add "names"'),
        ([Example("Who?", "Ann.", names=("Eve",))], POOL, "no row to forget has any"),
        ([ANN], ["Ann Lee", "Bo Kay", "Bo Kay"], "wants 2 names .* there are 1: .*data.names"),
        ([ANN], [], "there are 0"),
    ],
)
def test_what_is_missing_is_said(rows, pool, words):
    with pytest.raises(DataError, match=words):
        draw_names(rows, pool, count=2, seed=0)


def test_a_pool_of_just_enough_names_is_enough():
    two = Example("Ann Lee or Eve Roy?", "Both.", names=("Ann Lee", "Eve Roy"))
    assert len(draw_names([two], POOL[:5], count=4, seed=0)[0]) == 4
    with pytest.raises(DataError, match="wants 6"):
        draw_names([two], POOL[:5], count=5, seed=0)
