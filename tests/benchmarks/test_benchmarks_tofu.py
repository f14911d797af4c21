# SPDX-License-Identifier: Apache-2.0
"""TOFU from its files: panels, the order of items, paraphrased questions, what is refused."""

import gzip
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from unilogit_jax.benchmarks import BENCHMARKS
from unilogit_jax.data import Source
from unilogit_jax.errors import DataError

HERE = Path(__file__).parents[1] / "data" / "tofu"


def load(folder=HERE, **wishes):
    return BENCHMARKS["tofu"](Source(dir=str(folder), **wishes))


def lines(name):
    """The rows of a JSON Lines file, read as plainly as can be."""
    return [json.loads(line) for line in (HERE / name).read_text("utf-8").splitlines()]


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(HERE, tmp_path / "tofu"))


def test_every_file_gives_its_panel():
    task = load()
    count = Counter(probe.group for probe in task.probes)
    assert count == {"forget": 8, "retain": 4, "real_authors": 3, "world_facts": 3, "holdout": 4}
    assert [panel.name for panel in task.panels] == list(count)
    assert [panel.new_tokens for panel in task.panels] == [None] * 4 + [0]
    assert all(panel.scored for panel in task.panels)


@pytest.mark.parametrize("group", ["forget", "retain", "real_authors", "world_facts"])
def test_items_are_the_rows_of_the_file_in_its_order(group):
    file = {"forget": "forget10"}.get(group, group)
    rows = lines(f"{file}_perturbed.json")
    probes = [probe for probe in load().probes if probe.group == group]
    for probe, row in zip(probes, rows, strict=True):
        assert (probe.question, probe.answer) == (row["question"], row["answer"])
        assert probe.paraphrase == row.get("paraphrased_answer")
        assert list(probe.wrong) == row["perturbed_answer"]
    wrong, paraphrase = (5, True) if group in ("forget", "retain") else (3, False)
    assert {(len(p.wrong), p.paraphrase is not None) for p in probes} == {(wrong, paraphrase)}


def test_held_out_authors_are_in_no_other_split():
    task = load()
    rows = json.loads((HERE / "holdout10.json").read_text("utf-8"))
    held_out = [(p.question, p.answer) for p in task.probes if p.group == "holdout"]
    assert held_out == [(row["question"], row["answer"]) for row in rows]
    assert not {q for q, _ in held_out} & {row.question for row in (*task.forget, *task.retain)}


def test_questions_are_asked_in_other_words_where_that_is_wished():
    plain, other = load(), load(questions="paraphrased")
    rows = {"forget": "forget10_perturbed.json", "retain": "retain_perturbed.json"}
    for group, file in rows.items():
        asked = [probe.question for probe in other.probes if probe.group == group]
        assert asked == [row["paraphrased_question"] for row in lines(file)]
    assert (other.forget, other.retain) == (plain.forget, plain.retain), "training is the same"
    assert other.forget[0].alternates == tuple(
        lines("forget10_perturbed.json")[0]["perturbed_answer"]
    )
    rest = [[p for p in t.probes if p.group not in rows] for t in (plain, other)]
    assert rest[0] == rest[1]


def test_without_perturbed_files_the_trained_rows_are_asked(folder):
    for path in (*folder.glob("*_perturbed.json"), folder / "holdout10.json"):
        path.unlink()
    task = load(folder)
    assert [panel.name for panel in task.panels] == ["forget", "retain"]
    assert [p.question for p in task.probes] == [r.question for r in (*task.forget, *task.retain)]
    with pytest.raises(DataError, match=r"paraphrased, but forget10_perturbed is not in"):
        load(folder, questions="paraphrased")


def test_a_larger_split_takes_all_other_authors(folder):
    (folder / "forget10.json").rename(folder / "forget20.json")
    (folder / "retain90.json").rename(folder / "retain80.json")
    task = load(folder, forget="forget20")
    assert (task.name, len(task.forget), len(task.retain)) == ("tofu-forget20", 8, 16)
    assert "holdout" not in {panel.name for panel in task.panels}, "there is none for it"
    with pytest.raises(DataError, match=r"'retain95' is not in .* Did you mean"):
        (folder / "forget20.json").rename(folder / "forget05.json")
        load(folder, forget="forget05")


def test_packed_files_are_read_and_a_damaged_one_is_named(folder):
    wanted = load(folder)
    for path in list(folder.glob("*.json")):
        (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert load(folder).probes == wanted.probes
    packed = folder / "retain_perturbed.json.gz"
    packed.write_bytes(packed.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"retain_perturbed.json.gz is a damaged gz file"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"paraphrased_answer": None}, r"retain_perturbed.json:1: .* 'paraphrased_answer'"),
        ({"perturbed_answer": "one text"}, r"retain_perturbed.json:1: .* list .*perturbed_answer"),
        ({"question": " "}, r"retain_perturbed.json:1: .* 'question'"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(folder, change, message):
    row = lines("retain_perturbed.json")[0] | change
    (folder / "retain_perturbed.json").write_text(json.dumps(row))
    with pytest.raises(DataError, match=message):
        load(folder)
