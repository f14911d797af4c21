# SPDX-License-Identifier: Apache-2.0
"""Conversations: the last answer is the row's, what comes before is shown; others are refused."""

import pytest

from unilogit_jax.data import as_example
from unilogit_jax.data.chats import read_chat
from unilogit_jax.errors import DataError


def messages(*turns):
    return [{"role": role, "content": text} for role, text in turns]


def test_the_last_answer_is_learned_and_earlier_turns_are_shown():
    turns = messages(
        ("system", "Be brief."),
        ("user", "One?"),
        ("assistant", "Yes."),
        ("user", "Two?"),
        ("assistant", "No."),
        ("user", "Three?"),
        ("assistant", "Why?"),
    )
    assert read_chat(turns, "here") == (
        "Be brief.",
        (("One?", "Yes."), ("Two?", "No.")),
        "Three?",
        "Why?",
    )
    example = as_example({"messages": turns, "alternates": ["So."]}, "here")
    assert (example.question, example.answer, example.system) == ("Three?", "Why?", "Be brief.")
    assert (example.shots, example.alternates) == ((("One?", "Yes."), ("Two?", "No.")), ("So.",))


def test_a_single_question_has_nothing_before_it():
    chat = read_chat(messages(("user", "Who?"), ("assistant", "Ann.")), "here")
    assert chat == (None, (), "Who?", "Ann.")


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ("Who?", "here: 'messages' must be a list"),
        ([], "the roles are none"),
        (messages(("user", "Who?")), "the roles are user"),
        (messages(("assistant", "Ann."), ("user", "Who?")), "the roles are assistant, user"),
        (messages(("system", "Hm.")), "the roles are none"),
        (
            messages(("user", "Who?"), ("assistant", "Ann."), ("system", "Hm.")),
            "the roles are user, assistant, system",
        ),
        (messages(("user", "Who?"), ("tool", "{}")), "here, message 2: expected role system, user"),
        ([{"role": "user", "content": ["Who?"]}], "here, message 1: expected role"),
        (messages(("user", " "), ("assistant", "Ann.")), "here, message 1: 'content' must be text"),
    ],
)
def test_conversations_of_another_form_are_refused(turns, words):
    with pytest.raises(DataError) as error:
        read_chat(turns, "here")
    assert words in str(error.value)
