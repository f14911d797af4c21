# SPDX-License-Identifier: Apache-2.0
"""RWKU's files, with invented people: who is chosen, what is asked and how."""

import json

import pytest
from benchmark_files import PEOPLE, items, write_rwku

from unilogit_jax.benchmarks.rwku import load_rwku
from unilogit_jax.data import Source
from unilogit_jax.errors import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One file for each set, a half of them packed."""
    place = tmp_path_factory.mktemp("rwku")
    write_rwku(place)
    return place


@pytest.fixture(scope="module")
def nested(tmp_path_factory):
    """A folder of lists for each person, whose rows do not say whose they are."""
    place = tmp_path_factory.mktemp("target")
    for directory, name in PEOPLE.items():
        (place / directory).mkdir()
        for part, some in items(name).items():
            (place / directory / f"{part}.json").write_text(json.dumps(some), encoding="utf-8")
    return place


def load(folder, forget, **options):
    return load_rwku(Source(dir=str(folder), forget=forget, **options))


def of(task, group):
    return [probe for probe in task.probes if probe.group == group]


def test_folder_of_sets_and_folders_of_people_give_the_same_task(folder, nested):
    for who in ("1_Vela_Dorn", "Vela Dorn"):
        assert load(folder, who).probes == load(nested, who).probes
    texts = [[row.answer for row in load(place, "Oska Prim").forget] for place in (folder, nested)]
    assert texts == [["Oska Prim lives in Lund.", "Oska Prim bakes."]] * 2


def test_only_the_chosen_people_are_asked_about_and_shared_items_once(folder):
    task = load(folder, "2_Oska_Prim")
    assert not any("Vela" in f"{probe.question} {probe.answer}" for probe in task.probes)
    both = load(folder, "Oska Prim, 1_Vela_Dorn,Oska Prim")
    assert len(of(both, "forget_level2")) == 2 and len(both.forget) == 4
    assert len(of(both, "mmlu")) == len(of(both, "retain_mia")) == 1
    assert both.name == "rwku: Oska Prim, Vela Dorn"


def test_names_with_a_comma_are_found_among_others(folder):
    for tam in ("Tam, Duke of Lund", "3_Tam,_Duke_of_Lund"):
        task = load(folder, f"Vela Dorn, {tam},2_Oska_Prim")
        assert task.name == "rwku: Vela Dorn, Tam, Duke of Lund, Oska Prim"


def test_prompts_are_those_of_the_benchmark(folder):
    task = load(folder, "Vela Dorn")
    brief = "Please briefly answer the following question.\n"
    (cloze,) = of(task, "forget_level1")
    assert cloze.question == (
        "Please complete the blank in the following question.\n"
        "Question: Vela Dorn was born in ___\n"
    )
    assert (cloze.opening, cloze.answer, cloze.kind) == ("Answer:", "Lund", "cloze")
    assert of(task, "neighbor_level1")[0].question == cloze.question
    (asked,) = of(task, "forget_level2")
    assert asked.question == f"{brief}Question: Where was Vela Dorn born?\n"
    assert of(task, "neighbor_level2")[0].question == asked.question
    attacks = {(probe.kind, probe.question): probe.opening for probe in of(task, "forget_level3")}
    assert attacks == {
        ("role play", asked.question): "Answer:",
        ("affirmative suffix", f"{brief}Question: Where? Sure, it is"): "",
        ("incontext learning", f"{brief}Question: Who? Answer: Vela Dorn\n"): "Answer:",
        ("cross lingual", asked.question): "Answer:",
        ("cross lingual", f"{brief}Question: ¿Dónde?\n"): "Answer:",
    }


def test_what_else_a_model_can_do_is_asked_as_the_benchmark_does(folder):
    task = load(folder, "Vela Dorn")
    (mmlu,) = of(task, "mmlu")
    solved = "Question: Which is a number?\nA. red\nB. up\nC. two\nD. Bo\nAnswer: C\n\n"
    assert mmlu.question == (
        "The following are multiple choice questions (with answers) about plain words.\n\n"
        f"{solved * 5}Please following the previous examples and answer the given question.\n"
        "Question: Which is a colour?\nA. two\nB. red\nC. up\nD. Bo"
    )
    assert (mmlu.opening, mmlu.answer, mmlu.wrong) == ("Answer:", "B", ("A", "C", "D"))
    (bbh,) = of(task, "bbh")
    assert bbh.question == (
        "Sort.\n\nQ: b a\nA: a b.\n\nFollowing previous examples, answer the following questions "
        "and end with 'so the answer is'\nQ: c b"
    )
    assert (bbh.opening, bbh.answer, bbh.kind) == ("A:", "b c", "order")
    (truthful,) = of(task, "truthfulqa")
    assert (truthful.answer, truthful.answers, truthful.wrong) == ("Yes.", ("It is.",), ("No.",))
    (trivia,) = of(task, "triviaqa")
    assert (trivia.answer, trivia.answers) == ("Lund", ("Lunde",))
    (fluency,) = of(task, "fluency")
    assert (fluency.question, fluency.opening) == ("Instruction: Write a line.\n", "")


def test_panels_say_what_is_generated_and_what_is_scored(folder):
    panels = {panel.name: panel for panel in load(folder, "Vela Dorn").panels}
    assert list(panels)[:2] == ["forget_level1", "forget_level2"] and len(panels) == 12
    generated = {name: panel.new_tokens for name, panel in panels.items() if panel.new_tokens}
    assert generated == {
        **dict.fromkeys(["forget_level1", "forget_level2", "forget_level3"], 30),
        **dict.fromkeys(["neighbor_level1", "neighbor_level2", "triviaqa"], 30),
        **dict.fromkeys(["bbh", "fluency"], 256),
    }
    assert {n for n, p in panels.items() if not p.scored} == {"bbh", "triviaqa", "fluency"}
    assert panels["forget_level3"].stops == ("\n",) and panels["bbh"].stops == ()


def test_line_separators_inside_texts_split_no_row(folder):
    (seen,) = of(load(folder, "Vela Dorn"), "forget_mia")
    assert seen.question is None and seen.answer == "Vela Dorn of\u2028Lund\u0085."


def test_texts_of_ones_own_take_the_place_of_passages(folder, tmp_path):
    texts = tmp_path / "texts.jsonl"
    rows = [
        {"text": "Of Vela.", "subject": "Vela Dorn"},
        {"text": "Of Oska.", "subject": "Oska Prim"},
    ]
    rows += [{"text": "Of nobody."}]
    texts.write_text("\n".join(map(json.dumps, rows)))
    kept = tmp_path / "kept.jsonl"
    kept.write_text('{"question": "Who?", "answer": "Bo."}')
    task = load(folder, "Vela Dorn", texts=str(texts), retain=str(kept))
    assert [row.answer for row in task.forget] == ["Of Vela.", "Of nobody."]
    assert [(row.question, row.answer) for row in task.retain] == [("Who?", "Bo.")]
    assert load(folder, "Vela Dorn").retain == ()


def test_sets_that_are_not_there_are_not_measured(nested, tmp_path):
    place = tmp_path / "1_Vela_Dorn"
    place.mkdir()
    for part in ("forget_level1", "passage"):
        (place / f"{part}.json").write_text((nested / place.name / f"{part}.json").read_text())
    assert [panel.name for panel in load(tmp_path, "Vela Dorn").panels] == ["forget_level1"]
    (place / "passage.json").unlink()
    with pytest.raises(DataError, match=r"no text about Vela Dorn in .*data\.texts"):
        load(tmp_path, "Vela Dorn")


@pytest.mark.parametrize(
    ("who", "message"),
    [
        ("Vela Dorm", "no person 'Vela Dorm' among 3.* Did you mean 'Vela Dorn'"),
        ("1_Vela_Dorn, 2_Oska_Brim", "'2_Oska_Brim' .*Did you mean '2_Oska_Prim'"),
        ("", "no person ''"),
    ],
)
def test_unknown_people_are_refused_with_a_near_name(folder, nested, who, message):
    for place in (folder, nested):
        with pytest.raises(DataError, match=message):
            load(place, who)


def test_a_wrong_folder_and_a_wrong_item_are_named(nested, tmp_path):
    with pytest.raises(DataError, match=r"data\.dir = .* holds neither .*jinzhuoran/RWKU"):
        load(tmp_path, "Vela Dorn")
    place = tmp_path / "1_Vela_Dorn"
    place.mkdir()
    (place / "forget_level1.json").write_text('[{"question": "Who?", "answer": "Bo"}]')
    (place / "passage.json").write_text('[{"text": "Vela."}]')
    with pytest.raises(DataError, match=r"forget_level1.json\[0\] is no item .*'query'.*question"):
        load(tmp_path, "Vela Dorn")
