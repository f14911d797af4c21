# SPDX-License-Identifier: Apache-2.0
"""Other answers to questions: where their text comes from, and what the rows hold."""

import numpy as np
import pytest

from unilogit_jax.data import Example, Rows, Task
from unilogit_jax.data.refusals import REFUSALS
from unilogit_jax.methods import AltPo, Dpo, IdkAp, JensUn, Unilogit
from unilogit_jax.types import ALTERNATE, IGNORE, RETAIN_ALTERNATE
from unilogit_jax.workflows._alternates import alternate_rows

FORGET = tuple(
    Example(f"Q{k}?", f"answer {k} " * (k + 1), alternates=(f"other {k}", f"another {k}"))
    for k in range(6)
)
TASK = Task("test", FORGET, tuple(Example(f"R{k}?", f"kept {k}") for k in range(9)), ())


class Encoder:
    """Every word is a token, three tokens of prompt go before; remembers the texts."""

    def __init__(self):
        self.words: dict[str, int] = {}
        self.texts: list[list[tuple[str | None, str]]] = []

    def __call__(self, examples, what):
        self.texts.append([(e.question, e.answer) for e in examples])
        ids = [
            [self.words.setdefault(w, len(self.words) + 10) for w in e.answer.split()] + [1]
            for e in examples
        ]
        length = 3 + max(map(len, ids))
        labels = np.full((len(ids), length), IGNORE, np.int32)
        tokens = np.zeros((len(ids), length), np.int32)
        for r, row in enumerate(ids):
            tokens[r, 3 : 3 + len(row)], labels[r, 2 : 2 + len(row)] = row, row
        return Rows(tokens, labels, np.array([3 + len(row) for row in ids], np.int32))


def made(method, path=None, seed=0):
    encode = Encoder()
    return alternate_rows(method, TASK, encode, refusals=path, seed=seed), encode


def test_refusals_answer_the_same_questions_and_the_seed_decides_which():
    rows, encode = made(IdkAp())
    assert set(rows) == {ALTERNATE, RETAIN_ALTERNATE}
    for texts, examples in zip(encode.texts, (TASK.forget, TASK.retain), strict=True):
        assert [question for question, _ in texts] == [e.question for e in examples]
        assert {answer for _, answer in texts} <= set(REFUSALS)
    assert made(IdkAp())[1].texts == encode.texts != made(IdkAp(), seed=1)[1].texts


def test_a_file_of_refusals_takes_the_place_of_the_usual_ones(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("No comment.\n\n  Ask someone else. \n")
    _, encode = made(Dpo(), str(path))
    assert {answer for _, answer in encode.texts[0]} == {"No comment.", "Ask someone else."}


def test_given_answers_lie_together_by_question():
    rows, encode = made(AltPo())
    wanted = [(e.question, text) for e in FORGET for text in e.alternates]
    assert encode.texts == [wanted] and len(rows[ALTERNATE]) == 12


@pytest.mark.parametrize("line", ["No.", "I do not know the answer to that at all, sorry."])
def test_relabelled_rows_read_the_answer_and_say_a_refusal_over_and_over(tmp_path, line):
    path = tmp_path / "lines.txt"
    path.write_text(line)
    rows, encode = made(JensUn(), str(path))
    own, said = rows[ALTERNATE], [encode.words[w] for w in line.split()] + [1]
    plain = encode(FORGET, "")
    assert np.array_equal(own.tokens, plain.tokens) and np.array_equal(own.lengths, plain.lengths)
    assert np.array_equal(own.labels == IGNORE, plain.labels == IGNORE)
    for row in own.labels:
        on = row[row != IGNORE]
        assert on.tolist() == [said[t % len(said)] for t in range(len(on))]


def test_a_method_without_other_answers_gets_none():
    rows, encode = made(Unilogit())
    assert rows == {} and encode.texts == []
