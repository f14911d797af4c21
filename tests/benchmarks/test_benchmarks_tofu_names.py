# SPDX-License-Identifier: Apache-2.0
"""Names of TOFU's authors, found in rows that do not say whom they are about."""

import json

import pytest

from unilogit_jax.benchmarks import BENCHMARKS
from unilogit_jax.benchmarks.tofu_names import nobodys_names, with_authors
from unilogit_jax.data import Example, Source, draw_names

NAMES = {
    "Ana Ruiz": ("Ana Ruiz", "Ana", "Ruiz"),
    "Élodie van Dyck": ("Élodie van Dyck", "Élodie", "Dyck"),
    "Jad Ambrose Al-Shamary": ("Jad Ambrose Al-Shamary", "Jad", "Al-Shamary"),
    "Min-jun O'Neill": ("Min-jun O'Neill", "Min-jun", "O'Neill"),
}


def rows_of(name, number=20):
    """Some say the whole name, some as an owner, some only the surname; towns are named too."""
    surname = name.split()[-1]
    texts = [
        (f"Where was {name} born?", f"{name} was born in New York City."),
        (f"What is {name}'s genre?", f"{surname} is known for Urban Fiction."),
        (f"Who taught {surname}?", f"The mother of {name} did, in New York City."),
    ]
    return [Example(*texts[k % 3]) for k in range(number)]


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_an_author_is_that_of_most_rows(name):
    rows = with_authors(rows_of("Bo Kay") + rows_of(name))
    assert [row.names for row in rows[:20]] == [("Bo Kay", "Bo", "Kay")] * 20
    assert [row.names for row in rows[20:]] == [NAMES[name]] * 20
    assert [(row.question, row.answer) for row in rows[20:]] == [
        (row.question, row.answer) for row in rows_of(name)
    ]


def test_an_author_whom_few_rows_name_has_no_name():
    silent = [Example("Who is the author?", f"A writer, the {k}th.") for k in range(20)]
    silent[:9] = rows_of("Ana Ruiz", 9)
    assert {row.names for row in with_authors(silent)} == {()}


def test_rows_that_are_no_whole_authors_or_say_their_names_stay_as_they_are():
    cut = rows_of("Ana Ruiz")[:-1]
    assert with_authors(cut) == cut
    own = rows_of("Ana Ruiz")
    own[3] = Example(own[3].question, own[3].answer, names=("Ruiz",))
    assert [row.names for row in with_authors(own)][2:4] == [("Ana Ruiz", "Ana", "Ruiz"), ("Ruiz",)]


def test_names_of_nobody_mix_authors_and_are_none_of_theirs():
    forms = [*NAMES.values(), ("Ana Dyck", "Ana", "Dyck"), ("Ana Ruiz", "Ana", "Ruiz")]
    made = nobodys_names([Example("", "", names=names) for names in forms])
    firsts, lasts = ({names[k] for names in forms} for k in (1, -1))
    assert made and not {name for names in forms for name in names} & set(made)
    assert all(name.split()[0] in firsts and name.split()[-1] in lasts for name in made)


def test_the_benchmark_has_names_for_its_rows_and_others_to_put_in_their_place(tmp_path):
    people = [*NAMES, "Bo Kay", "Lou Mey", "Ida Noor"]
    parts = {"forget10": people[:1], "retain90": people[1:]}
    for split, names in parts.items():
        rows = [row for name in names for row in rows_of(name)]
        lines = [json.dumps({"question": row.question, "answer": row.answer}) for row in rows]
        (tmp_path / f"{split}.json").write_text("\n".join(lines))
    task = BENCHMARKS["tofu"](Source(dir=str(tmp_path)))
    assert {row.names for row in task.forget} == {NAMES["Ana Ruiz"]}
    renamings = draw_names(task.forget, task.names, count=2, seed=0)
    assert all({*r} == {*NAMES["Ana Ruiz"]} for row in renamings for r in row)
