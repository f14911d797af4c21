# SPDX-License-Identifier: Apache-2.0
"""Own files: what is trained, what is asked, and the optional fields."""

import json

import pytest

from unilogit_jax.benchmarks.files import load_files
from unilogit_jax.data import Source
from unilogit_jax.errors import DataError

ROW = {"question": "Who?", "answer": "Ann."}
CHAT = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "Ann."},
    ]
}


@pytest.fixture
def write(tmp_path):
    def to(name, *rows):
        path = tmp_path / name
        path.write_text("\n".join(map(json.dumps, rows)))
        return str(path)

    return to


def test_rows_are_trained_and_asked_back_in_their_groups(write):
    task = load_files(Source(forget=write("f", ROW), retain=write("r", {"text": "A town."})))
    assert [(row.question, row.answer) for row in task.forget] == [("Who?", "Ann.")]
    assert [(p.group, p.question, p.answer) for p in task.probes] == [
        ("forget", "Who?", "Ann."),
        ("retain", None, "A town."),
    ]
    assert [panel.name for panel in task.panels] == ["forget", "retain"]


def test_rows_never_seen_are_asked_and_not_trained(write):
    unseen = {"question": "Where?", "answer": "Lund."}
    task = load_files(Source(forget=write("f", ROW), holdout=write("h", unseen)))
    assert len(task.forget) == 1 and task.retain == ()
    assert [(p.group, p.question) for p in task.probes][1:] == [("holdout", "Where?")]
    (panel,) = task.panels[2:]
    assert (panel.name, panel.new_tokens, panel.scored) == ("holdout", 0, True)


def test_earlier_turns_and_the_system_prompt_go_with_training_and_with_asking(write):
    task = load_files(Source(forget=write("f", CHAT)))
    for item in (*task.forget, *task.probes):
        assert (item.question, item.answer) == ("Who?", "Ann.")
        assert (item.system, item.shots) == ("Be brief.", (("Hi.", "Hello."),))


def test_optional_fields_are_measured(write):
    row = {**ROW, "wrong": ["Bo.", "Cy."], "paraphrase": "It is Ann.", "answers": ["Anna."]}
    task = load_files(Source(forget=write("f", {**row, "kind": "name", "id": 7})))
    (probe,) = task.probes
    assert (probe.wrong, probe.paraphrase) == (("Bo.", "Cy."), "It is Ann.")
    assert (probe.answers, probe.kind, probe.name) == (("Anna.",), "name", "7")
    assert task.forget[0].alternates == ("Bo.", "Cy.")


def test_alternates_to_teach_come_before_wrong_answers(write):
    row = {**ROW, "wrong": ["Bo."], "alternates": ["Nobody."]}
    task = load_files(Source(forget=write("f", row)))
    assert task.forget[0].alternates == ("Nobody.",) and task.probes[0].wrong == ("Bo.",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wrong": "Bo."}, r"f:2: 'wrong' must be a list of texts"),
        ({"answers": [3]}, r"f:2: 'answers' must be a list of texts"),
        ({"paraphrase": ["It is."]}, r"f:2: 'paraphrase' must be text, got list"),
        ({"id": True}, r"f:2: 'id' must be text, got bool"),
    ],
)
def test_optional_fields_of_another_form_are_refused_with_their_line(write, change, message):
    with pytest.raises(DataError, match=message):
        load_files(Source(forget=write("f", ROW, {**ROW, **change})))


def test_an_empty_file_is_refused_by_its_name(write):
    with pytest.raises(DataError, match="r is empty"):
        load_files(Source(forget=write("f", ROW), retain=write("r")))
