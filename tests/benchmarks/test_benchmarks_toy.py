# SPDX-License-Identifier: Apache-2.0
"""The invented people: counts, what is asked and trained, wrong answers, patterns, determinism."""

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unilogit_jax.benchmarks.toy import load_toy, make_task
from unilogit_jax.benchmarks.toy_words import ATTRIBUTES, FIRST_NAMES, LAST_NAMES
from unilogit_jax.data import Source
from unilogit_jax.errors import ConfigError
from unilogit_jax.metrics import is_malformed

TASK = make_task()


def person(row):
    """The full name at the front of every answer."""
    return " ".join(row.answer.split()[:2])


def words(text):
    return set(re.findall(r"\w+", text))


def test_the_usual_task_has_the_stated_counts():
    assert (len(TASK.forget), len(TASK.retain)) == (4 * 8 * 4, 36 * 8 * 4)
    assert Counter(probe.group for probe in TASK.probes) == {"forget": 32, "retain": 288}
    assert all(len(probe.wrong) == 4 for probe in TASK.probes)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    people=st.integers(2, len(FIRST_NAMES) * len(LAST_NAMES)),
    phrasings=st.integers(1, 4),
    data=st.data(),
)
def test_any_size_has_unique_people_questions_and_wrong_answers(seed, people, phrasings, data):
    gone = data.draw(st.integers(1, min(people - 1, 9)))
    task = make_task(seed=seed, people=people, phrasings=phrasings, forget_people=gone)
    rows, facts = (*task.forget, *task.retain), people * len(ATTRIBUTES)
    assert len({person(row) for row in rows}) == people
    assert len({person(row) for row in task.forget}) == gone
    assert len({row.question for row in rows}) == len(rows) == facts * phrasings
    assert len({probe.question for probe in task.probes}) == len(task.probes) == facts
    assert all(len({probe.answer, *probe.wrong}) == 5 for probe in task.probes)


def test_forgotten_people_are_in_no_row_to_keep():
    gone = {person(row) for row in TASK.forget}
    assert len(gone) == 4
    for row in TASK.retain:
        assert not any(name in f"{row.question} {row.answer}" for name in gone)
    assert {person(p) for p in TASK.probes if p.group == "forget"} == gone
    assert {person(p) for p in TASK.probes if p.group == "retain"} == {
        person(r) for r in TASK.retain
    }


def test_probes_ask_in_a_way_that_is_never_trained_and_in_words_that_are():
    rows = (*TASK.forget, *TASK.retain)
    trained = {row.question for row in rows}
    assert not trained & {probe.question for probe in TASK.probes}
    kept = set().union(*(words(f"{row.question} {row.answer}") for row in TASK.retain))
    assert all(words(probe.question or "") <= kept for probe in TASK.probes)


def test_probes_have_the_answer_that_training_gives():
    answers = Counter(row.answer for row in (*TASK.forget, *TASK.retain))
    assert answers == {probe.answer: 4 for probe in TASK.probes}


def test_every_row_and_question_names_its_person():
    for item in (*TASK.forget, *TASK.retain, *TASK.probes):
        assert person(item) in (item.question or "")


def test_rows_know_their_person_and_the_task_names_of_nobody():
    rows = (*TASK.forget, *TASK.retain)
    assert all(row.names == (person(row),) for row in rows)
    words_of_names = {*FIRST_NAMES, *LAST_NAMES}
    assert len(set(TASK.names)) == len(TASK.names) == 400 - 40
    assert not set(TASK.names) & {person(row) for row in rows}
    assert all(set(name.split()) <= words_of_names for name in TASK.names)


def test_true_and_wrong_answers_match_the_pattern_of_their_probe_only():
    for probe in TASK.probes:
        others = {other.pattern for other in TASK.probes} - {probe.pattern}
        for answer in (probe.answer, *probe.wrong):
            assert probe.pattern and re.fullmatch(probe.pattern, answer)
            assert not any(re.fullmatch(other or "", answer) for other in others)


def test_wrong_answers_differ_from_the_true_one_in_the_value_alone():
    for i, probe in enumerate(TASK.probes):
        attribute = ATTRIBUTES[i % len(ATTRIBUTES)]
        same = {attribute.answer.format(name=person(probe), value=v) for v in attribute.values}
        assert {probe.answer, *probe.wrong} < same
        assert probe.answer not in probe.wrong


@pytest.mark.parametrize(
    "corrupt",
    [
        lambda text: text.removesuffix("."),
        lambda text: text.lower(),
        lambda text: text.split(" ", 1)[1],
        lambda text: f"{text} {text}",
        lambda text: text.replace(" ", "  ", 1),
        lambda text: text.removesuffix(".") + "s.",
        lambda text: " ".join([*text.split()[:2], *text.split()[:1:-1]]),
    ],
)
def test_corrupted_answers_are_malformed(corrupt):
    for probe in TASK.probes:
        assert not is_malformed(probe.answer, ended=True, pattern=probe.pattern)
        changed = corrupt(probe.answer)
        if changed != probe.answer:
            assert is_malformed(changed, ended=True, pattern=probe.pattern)


def test_a_value_of_another_attribute_is_malformed():
    for i, probe in enumerate(TASK.probes):
        sentence = ATTRIBUTES[i % 8].answer
        strange = sentence.format(name=person(probe), value=ATTRIBUTES[(i + 1) % 8].values[0])
        assert is_malformed(strange, ended=True, pattern=probe.pattern)


def test_each_forgotten_name_is_also_part_of_a_name_to_keep():
    kept = set().union(*(set(person(row).split()) for row in TASK.retain))
    assert all(set(person(row).split()) <= kept for row in TASK.forget)
    used = Counter(name for probe in TASK.probes for name in person(probe).split())
    assert set(used.values()) == {2 * len(ATTRIBUTES)}


def test_values_of_two_attributes_are_drawn_independently():
    # over 400 people every value of a pool of 16 meets most values of the next
    task = make_task(people=400)
    answers = [probe.answer.split(" ", 2)[2] for probe in task.probes]
    pairs = Counter(zip(answers[0::8], answers[1::8], strict=True))
    # 400 draws from 256 pairs leave about 256 (1 - e^{-400/256}) = 202 of them used
    assert 180 < len(pairs) < 225
    assert max(Counter(answers[0::8]).values()) < 50


def test_more_phrasings_or_forgotten_people_change_no_fact():
    few = make_task(seed=5, phrasings=2, forget_people=1)
    many = make_task(seed=5, phrasings=4, forget_people=9)
    assert [p.answer for p in few.probes] == [p.answer for p in many.probes]
    assert [p.wrong for p in few.probes] == [p.wrong for p in many.probes]


def test_seeds_make_different_people():
    assert {person(p) for p in make_task(seed=1).probes} != {person(p) for p in TASK.probes}
    assert make_task(seed=1) == make_task(seed=1)


def test_words_are_unique_and_short_enough():
    pools = [FIRST_NAMES, LAST_NAMES, *(attribute.values for attribute in ATTRIBUTES)]
    everything = [word for pool in pools for word in pool]
    assert len(everything) == len(set(everything))
    assert all(re.fullmatch("[A-Z][a-z]+", name) for name in (*FIRST_NAMES, *LAST_NAMES))
    assert all(len(attribute.values) == 16 for attribute in ATTRIBUTES)
    rows = [
        f"Question: {row.question}\nAnswer: {row.answer}" for row in (*TASK.forget, *TASK.retain)
    ]
    assert max(len(re.findall(r"\w+|[^\w ]", row)) for row in rows) <= 24


def test_a_configuration_names_the_seed():
    assert load_toy(Source(seed=4)) == make_task(seed=4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"people": 401}, "people=401.*400"),
        ({"people": 1}, "people=1"),
        ({"phrasings": 0}, "phrasings=0"),
        ({"phrasings": 5}, "phrasings=5.*1 to 4"),
        ({"forget_people": 0}, "forget_people=0"),
        ({"forget_people": 40}, "forget_people=40 of people=40"),
    ],
)
def test_impossible_sizes_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        make_task(**wrong)
