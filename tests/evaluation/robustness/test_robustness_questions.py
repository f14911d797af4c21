# SPDX-License-Identifier: Apache-2.0
"""Which questions are asked, in what dress, and what counts as giving the truth away."""

import numpy as np
import pytest

from unilogit_jax.benchmarks.toy import make_task
from unilogit_jax.data import Example, Panel, Probe, Rows, Task
from unilogit_jax.evaluation.robustness import (
    LEAK,
    begun,
    forget_probes,
    gives_away,
    leak_shares,
    other_words,
    question_task,
    shown_before,
)
from unilogit_jax.types import IGNORE

LABELS = [[IGNORE, 5, 6, 7, 8, 9, 1, 2, 3], [IGNORE, IGNORE, 5, 6, IGNORE, *[IGNORE] * 4]]
TOKENS = [[4, 4, 5, 6, 7, 8, 9, 1, 2], [4, 4, 4, 5, 6, 0, 0, 0, 0]]


def test_a_quarter_of_the_answer_is_given_and_the_rest_is_left():
    rows = Rows(np.array(TOKENS, np.int32), np.array(LABELS, np.int32), np.array([9, 5], np.int32))
    found = begun(rows)
    assert found.prompts == [[4, 4, 5, 6], [4, 4, 4, 5]] and found.rests == [
        [7, 8, 9, 1, 2, 3],
        [6],
    ]
    assert (found.rows.labels != IGNORE).sum(axis=1).tolist() == [6, 1]
    assert found.rows.labels[0, 3:].tolist() == LABELS[0][3:], "labels keep their places"
    assert (rows.labels != IGNORE).sum() == 10, "the rows given are left alone"


def test_an_answer_of_one_token_is_left_whole():
    rows = Rows(*(np.array([[4, 4, 7]], np.int32), np.array([[IGNORE, 7, IGNORE]], np.int32)),
                np.array([3], np.int32))  # fmt: skip
    found = begun(rows)
    assert found.prompts == [[4, 4]] and found.rests == [[7]]


def test_examples_are_drawn_from_questions_and_more_begin_with_fewer():
    rows = [Example(None, "Text."), *(Example(f"Q{k}?", f"A{k}.") for k in range(9))]
    probe = Probe("Who?", "Ann.", "forget")
    drawn = {seed: shown_before([probe], rows, 4, seed=seed)[0].shots for seed in (0, 1)}
    assert drawn[0] != drawn[1] and len(set(drawn[0])) == 4
    assert shown_before([probe], rows, 2, seed=0)[0].shots == drawn[0][:2]
    assert len(shown_before([probe], rows[:2], 4, seed=0)[0].shots) == 1


PANELS = tuple(
    Panel(name=name, new_tokens=3) for name in ("forget_knowmem", "verbmem", "retain_knowmem")
)


def test_questions_are_found_whatever_their_panels_are_called():
    probes = (
        Probe("Who?", "Ann.", "forget_knowmem"),
        Probe("Once", " upon", "verbmem", literal=True),
        Probe(None, "Text.", "forget_knowmem"),
        Probe("Where?", "Here.", "retain_knowmem"),
    )
    task = Task("t", (Example(None, "Text."),), (Example(None, "x"),), probes, panels=PANELS)
    assert forget_probes(task) == probes[:1]
    made = question_task(task, probes[:1], retain=True)
    assert [(p.group, p.answer) for p in made.probes] == [("forget", "Ann."), ("retain", "Here.")]
    assert [(panel.name, panel.new_tokens) for panel in made.panels] == [
        ("forget", 3),
        ("retain", 3),
    ]
    assert [p.group for p in question_task(task, probes[:1], retain=False).probes] == ["forget"]


def test_plain_texts_count_where_there_are_no_questions():
    text = Probe(None, "Text.", "forget")
    task = Task("t", (), (), (text, Probe(None, "More.", "holdout")))
    assert forget_probes(task) == (text,)


def test_other_words_are_those_that_no_row_has():
    task = make_task(people=4, forget_people=1)
    found = other_words(task)
    assert len(found) == 8 and not {p.question for p in found} & {e.question for e in task.forget}
    trained = tuple(Probe(e.question, e.answer, "forget") for e in task.forget)
    assert other_words(Task("t", task.forget, (), trained)) == ()


TRUTH = "Ann Lee lives in the old town of Oslo."
NEAR = "She lives in the old town of Oslo."


@pytest.mark.parametrize(
    ("texts", "pattern", "wanted"),
    [
        ([TRUTH, NEAR, "Ann Lee lives in Rome.", ""], None, [True, False, False, False]),
        (["Ann lives in the old town of Oslo."], None, [True]),
        ([TRUTH, NEAR, "Ann Lee lives in the old town of Rome."], ".*", [True, False, False]),
    ],
    ids=["words", "enough words", "form"],
)
def test_what_gives_the_truth_away(texts, pattern, wanted):
    assert LEAK == 0.8, "of nine words, eight are enough and seven are not"
    probe = Probe("Where?", TRUTH, "forget", pattern=pattern)
    assert gives_away(probe, texts).tolist() == wanted


def test_another_true_answer_counts_too():
    probe = Probe("Who?", "Nobody at all.", "forget", answers=("Ann Lee",))
    assert gives_away(probe, ["Ann Lee"]).tolist() == [True]


def test_shares_are_means_over_questions():
    found = leak_shares([np.array([True, True, False, False]), np.zeros(4, bool)])
    assert found == (0.25, 0.5)
