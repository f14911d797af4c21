# SPDX-License-Identifier: Apache-2.0
"""Data sets by their Hub id: when a text is one, what is asked for, and what is said offline."""

import datasets
import pytest

from unilogit_jax.data import read_examples, read_texts
from unilogit_jax.data.hub import as_hub_set
from unilogit_jax.errors import DataError


@pytest.fixture
def asked(monkeypatch):
    """What the datasets library is asked for; it has one row of each form."""
    calls = []

    def load(name, config, *, split):
        calls.append((name, config, split))
        rows = [{"question": "Who?", "answer": "Ann."}, {"question": "Where?", "answer": "Lund."}]
        return datasets.Dataset.from_list(rows)

    monkeypatch.setattr(datasets, "load_dataset", load)
    return calls


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("org/name", ("org/name", None, "train")),
        ("org/na-me_2.0:config", ("org/na-me_2.0", "config", "train")),
        ("org/name:config/test", ("org/name", "config", "test")),
        ("org/name:/validation", ("org/name", None, "validation")),
        ("org/name:a/train[:10%]", ("org/name", "a", "train[:10%]")),
    ],
)
def test_an_id_names_data_set_configuration_and_split(asked, text, wanted):
    rows = read_examples(text)
    assert asked == [wanted]
    assert [row.answer for row in rows] == ["Ann.", "Lund."]
    assert rows[1].where.startswith(f"{wanted[0]}:") and rows[1].where.endswith("row 2")


@pytest.mark.parametrize("text", ["name", "a/b/c", "gs://bucket/rows", "/a/b", "./a", "a/b:c/d e"])
def test_other_texts_are_no_ids(text):
    assert as_hub_set(text) is None


def test_a_file_comes_before_a_data_set_of_its_name(asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "name").write_text('{"text": "Here."}')
    assert read_examples("org/name")[0].answer == "Here." and not asked


@pytest.mark.parametrize("place", ["rows/forgot.jsonl", "there/forgot"])
def test_a_misspelt_file_is_not_looked_for_on_the_hub(asked, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "forget").write_text("")
    with pytest.raises(DataError, match="data file not found"):
        read_examples(place)
    assert not asked


def test_texts_come_from_the_hub_too(monkeypatch):
    def load(*_, split):
        return datasets.Dataset.from_list([{"text": "A town."}])

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert [(row.question, row.answer) for row in read_texts("org/name")] == [(None, "A town.")]


def test_offline_it_says_where_the_files_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as error:
        read_examples("org/name:config/test")
    said = str(error.value)
    assert said.startswith("org/name is no file here, and as a data set of the Hub it cannot be re")
    assert "org/name:config/test (" in said
    assert "https://huggingface.co/datasets/org/name" in said and "\n" not in said
