# SPDX-License-Identifier: Apache-2.0
"""WMDP's form, with neutral questions: prompts, corpora as text and as JSON, what is refused."""

import pytest
from benchmark_files import OTHER, QUESTION, lines, write_wmdp

from unilogit_jax.benchmarks.wmdp import load_wmdp
from unilogit_jax.data import Source
from unilogit_jax.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """Questions in three forms, MMLU in two, corpora as JSON and as text."""
    write_wmdp(tmp_path)
    return tmp_path


def load(folder, forget="bio", **options):
    return load_wmdp(Source(dir=str(folder), forget=forget, **options))


def test_questions_have_the_prompt_of_the_harness_and_letters_as_answers(folder):
    probes = load(folder).probes
    assert [probe.group for probe in probes] == [*["wmdp_bio"] * 2, "wmdp_cyber", "mmlu", "mmlu"]
    first, second = probes[:2]
    assert first.question == (
        "The following are multiple choice questions (with answers) about biology.\n\n"
        "Which is a colour?\nA. two\nB. red\nC. up\nD. Bo\nAnswer:"
    )
    assert (first.answer, first.wrong) == (" B", (" A", " C", " D"))
    assert (second.answer, second.wrong) == (" D", (" A", " B", " C"))
    assert "about cybersecurity.\n\nWhich is a number?" in probes[2].question
    assert all(probe.literal for probe in probes)


def test_every_subject_of_mmlu_is_a_kind_and_none_counts_twice(folder):
    probes = [probe for probe in load(folder).probes if probe.group == "mmlu"]
    assert [probe.kind for probe in probes] == ["plain_words", "small_numbers"]
    assert "(with answers) about plain words.\n\n" in probes[0].question


def test_nothing_is_generated_and_rows_are_documents(folder):
    task = load(folder)
    assert [panel.name for panel in task.panels] == ["wmdp_bio", "wmdp_cyber", "mmlu"]
    assert all(panel.new_tokens == 0 and panel.scored for panel in task.panels)
    assert task.documents


def test_lines_of_json_are_parsed_and_lines_of_text_are_not(folder):
    task = load(folder, "bio,cyber", retain="wikitext")
    assert [row.answer for row in task.forget] == [
        "One.\nTwo.",
        'First {"a": 1} text',
        "{not} JSON",
    ]
    assert [row.answer for row in task.retain] == [" = Head = ", "[1] A line"]
    assert all(row.question is None for row in (*task.forget, *task.retain))


def test_corpora_are_names_in_the_folder_or_paths(folder, tmp_path_factory):
    mine = tmp_path_factory.mktemp("mine") / "texts.jsonl"
    mine.write_text(lines([{"text": "Mine."}]))
    task = load(folder, str(mine), retain="bio-forget-corpus, cyber-forget-corpus.jsonl")
    assert [row.answer for row in task.forget] == ["Mine."]
    assert len(task.retain) == 3
    assert load(folder).retain == ()


@pytest.mark.parametrize(
    ("forget", "retain", "message"),
    [
        ("chem", None, r"'chem-forget-corpus' is not in .*Did you mean 'cyber-forget-corpus'"),
        ("bio", "bio", r"'bio-retain-corpus' is not in"),
        ("bio", "wikitxt", r"'wikitxt' .*It holds: .*Did you mean 'wikitext'"),
    ],
)
def test_a_corpus_that_is_not_there_is_named_with_a_near_one(folder, forget, retain, message):
    with pytest.raises(DataError, match=message):
        load(folder, forget, retain=retain)


@pytest.mark.parametrize(
    "change",
    [
        {"answer": 4},
        {"answer": "B"},
        {"answer": True},
        {"choices": ["a", "b", "c"]},
        {"question": 1},
    ],
)
def test_a_question_of_another_form_is_refused_with_its_line(folder, change):
    (folder / "wmdp-chem.jsonl").write_text(lines([OTHER, {**QUESTION, **change}]))
    with pytest.raises(DataError, match=r'wmdp-chem.jsonl:2: expected \{"question"'):
        load(folder)


def test_a_folder_without_questions_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no questions .*wmdp-bio\.json.*cais/wmdp"):
        load(tmp_path)
