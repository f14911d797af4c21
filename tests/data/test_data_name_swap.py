# SPDX-License-Identifier: Apache-2.0
"""Rows about somebody else: their tokens, which of them correspond, and the means over them."""

import numpy as np
import pytest

from unilogit_jax.data import (
    Example,
    SwappedRows,
    encode,
    encode_example,
    mean_log_odds,
    name_spans,
    swap_names,
    train_tokenizer,
)
from unilogit_jax.data.name_swap import _placed
from unilogit_jax.types import IGNORE

CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
NAMES = ("Ann Lee", "Lee")
ROWS = (
    Example("Who is Ann Lee?", "Ann Lee is a nurse, and Lee's aunt is too.", names=NAMES),
    Example(None, "Lee was born in Rome. Ann Lee is a nurse there.", names=NAMES),
    Example("What does Lee do?", "A nurse.", names=NAMES),
)
WAYS = (
    {"Ann Lee": "Bo Kay", "Lee": "Kay"},  # as many tokens
    {"Ann Lee": "Quintessa Vandermeer", "Lee": "Vandermeer"},  # more of them
    {"Ann Lee": "Ed", "Lee": "Ed"},
)


@pytest.fixture(scope="module")
def tokenizer():
    texts = ["Who is Ann Lee? A nurse, and her aunt is too. Where was Bo Kay born? In Rome there."]
    return train_tokenizer(texts * 20, vocab_size=340)


def renamed(text, way):
    if text is None:
        return None
    for name in NAMES:  # the longer one first
        text = text.replace(name, f"<{name}>".replace("Lee", "L"))
    for name in NAMES:
        text = text.replace(f"<{name}>".replace("Lee", "L"), way[name])
    return text


def swapped(tokenizer, *, template="plain", max_length=96):
    rows = encode(tokenizer, ROWS, template=template, max_length=max_length)
    more = {"template": template, "max_length": max_length}
    return rows, swap_names(tokenizer, ROWS, [WAYS] * len(ROWS), rows, **more)


@pytest.mark.parametrize(("template", "length"), [("plain", 96), ("chat", 96), ("plain", 40)])
def test_rows_are_the_encodings_of_the_text_with_other_names(tokenizer, template, length):
    tokenizer.chat_template = CHAT if template == "chat" else None
    _, found = swapped(tokenizer, template=template, max_length=length)
    texts = [
        Example(renamed(row.question, way), renamed(row.answer, way))
        for row in ROWS
        for way in WAYS
    ]
    assert len(found.rows) == len(texts) and found.unnamed == 0
    for r, text in enumerate(texts):
        ids, start = encode_example(tokenizer, text, template=template, max_length=length)
        assert found.rows.tokens[r, : found.rows.lengths[r]].tolist() == ids
        labels = found.rows.labels[r]
        assert (labels[: start - 1] == IGNORE).all(), "questions have no labels"
        on = np.flatnonzero(labels != IGNORE)
        assert labels[on].tolist() == [ids[t + 1] for t in on]
    tokenizer.chat_template = None


def pieces(tokenizer, ids, names):
    """Token -> where it is: (stretch, offset, id), or (name, n-th token of k); ASCII only."""
    text, places, inside = "".join(tokenizer.decode([i]) for i in ids), [], {}
    spans, at = name_spans(text, names), 0
    for i in ids:
        begin, at = at, at + len(tokenizer.decode([i]))
        over = [n for n, (b, e) in enumerate(spans) if b < at and begin < e]
        if over:
            inside[over[0]] = inside.get(over[0], 0) + 1
            places.append(("name", over[0], inside[over[0]]))
        else:
            gone = [e for _, e in spans if e <= begin]
            places.append(("text", len(gone), begin - max(gone, default=0), i))
    return [(*p, inside[p[1]]) if p[0] == "name" else p for p in places]


def test_labels_correspond_by_place_outside_of_names_and_by_number_inside(tokenizer):
    rows, found = swapped(tokenizer)
    got = {(*a, *b) for a, b in zip(found.here.tolist(), found.there.tolist(), strict=True)}
    wanted, lost = set(), 0
    for r in range(len(ROWS)):
        own = pieces(tokenizer, rows.tokens[r, : rows.lengths[r]], NAMES)
        for k, way in enumerate(WAYS):
            s = r * len(WAYS) + k
            other = pieces(
                tokenizer, found.rows.tokens[s, : found.rows.lengths[s]], [*way.values()]
            )
            for t in np.flatnonzero(rows.labels[r] != IGNORE):
                at = [u for u, place in enumerate(other) if place == own[t + 1]]
                wanted |= {(r, t, s, u - 1) for u in at}
                lost += not at
    assert got == wanted and len(found.here) == len(got)
    assert lost > 0, "names of other lengths have tokens without a counterpart"
    taken = [len({u for r, t, s, u in got if s == k}) for k in range(len(WAYS))]
    assert taken[0] == (rows.labels[0] != IGNORE).sum() > taken[1], "as many tokens lose none"


def test_bytes_of_a_letter_correspond_too(tokenizer):
    row = Example("Who?", "Ann Lee was at the café, née Zoë.", names=("Ann Lee",))
    rows = encode(tokenizer, [row])
    found = swap_names(tokenizer, [row], [[{"Ann Lee": "Çelik Ö"}]], rows)
    text = row.answer.removeprefix("Ann Lee")
    count = len(tokenizer(text)["input_ids"]) + 1
    last = np.flatnonzero(rows.labels[0] != IGNORE)[-count:]
    assert {(0, t) for t in last} <= {tuple(x) for x in found.here.tolist()}
    a, b = found.here, found.there
    same = rows.labels[tuple(a.T)] == found.rows.labels[tuple(b.T)]
    assert same[np.isin(a[:, 1], last)].all()


def test_what_a_longer_name_pushes_over_the_edge_has_no_counterpart(tokenizer):
    rows, found = swapped(tokenizer, max_length=41)
    assert rows.lengths[0] < 41 == found.rows.lengths[1]
    end = np.flatnonzero(rows.labels[0] != IGNORE)[-1]
    at_end = found.there[(found.here == (0, end)).all(1)]
    assert at_end[:, 0].tolist() == [0, 2], "the second name is the long one"
    assert (found.rows.labels[tuple(at_end.T)] == tokenizer.eos_token_id).all()


def test_rows_without_their_names_are_counted(tokenizer):
    rows = (ROWS[0], Example("Who?", "A nurse.", names=NAMES))
    found = swap_names(tokenizer, rows, [WAYS, WAYS], encode(tokenizer, rows))
    assert found.unnamed == 1 and set(found.here[:, 0]) == {0} and len(found.rows) == len(WAYS)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_means_are_those_of_the_probabilities(mean):
    rng = np.random.default_rng(0)
    here, there = np.argwhere(np.ones((3, 4))), rng.permutation(np.argwhere(np.ones((5, 6))))
    here = np.concatenate([here[rng.permutation(12)[:11]] for _ in range(2)])
    there = there[: len(here)]
    odds = rng.normal(0, 3, (5, 6)).astype(np.float32)
    rows = encode(train_tokenizer(["a"], vocab_size=300), [Example(None, "ab")])
    swaps = SwappedRows(rows, here, there, 0)
    got, count = mean_log_odds(swaps, odds, (3, 4), mean=mean, otherwise=-7.0)
    for r, t in np.argwhere(np.ones((3, 4))):
        mine = [odds[tuple(there[n])] for n in range(len(here)) if tuple(here[n]) == (r, t)]
        p = 1 / (1 + np.exp(-np.array(mine, np.float64)))
        assert count[r, t] == len(mine)
        tau = p.mean() if mean == "arithmetic" else np.prod(p) ** (1 / len(p)) if mine else 0
        wanted = np.log(tau / (1 - tau)) if mine else -7.0
        assert got[r, t] == pytest.approx(wanted, rel=1e-6)
    assert (got == -7.0).sum() == (count == 0).sum()


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
@pytest.mark.parametrize("size", [-60.0, 60.0])
def test_no_digit_is_lost_at_either_end(mean, size):
    rows = encode(train_tokenizer(["a"], vocab_size=300), [Example(None, "ab")])
    swaps = SwappedRows(rows, np.array([[0, 0], [0, 0]]), np.array([[0, 0], [0, 1]]), 0)
    odds = np.array([[size, size]], np.float32)
    got, _ = mean_log_odds(swaps, odds, (1, 1), mean=mean, otherwise=0.0)
    assert got[0, 0] == pytest.approx(size, rel=1e-6)


def test_a_token_that_merges_with_a_name_takes_no_other_place():
    # "Ann" and two equal letters; the other name swallows the first of them.
    own = _placed([9, 5, 5], [(0, 3), (3, 4), (4, 5)], [(0, 3)])
    other = _placed([8, 5], [(0, 4), (4, 5)], [(0, 3)])
    assert sorted(own.matches(other)) == [(0, 0), (2, 1)]
