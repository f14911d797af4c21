# SPDX-License-Identifier: Apache-2.0
"""RWKU (Jin et al. 2024, arXiv:2406.10890): famous people, from the files of its data set."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from unilogit_jax.benchmarks.find import find_split
from unilogit_jax.benchmarks.rwku_prompts import SETS, ItemSet
from unilogit_jax.data import Probe, Source, Task, as_example, read_examples, read_rows
from unilogit_jax.errors import DataError, suggest
from unilogit_jax.paths import AnyPath, to_source

Rows = list[tuple[str, dict[str, Any]]]
"""Rows with their places."""


class Person(NamedTuple):
    """Someone to forget."""

    name: str
    """In full, as `subject` has it."""
    folder: str
    """As folders and `target_dir` have it, "1_Stephen_King"; empty where the data do not say."""


def load_rwku(source: Source) -> Task:
    """Reads the items about the people named in `source.forget` from `source.dir`.

    A person is named in full or as a folder ("Stephen King", "1_Stephen_King"); several are
    separated by commas. `source.dir` holds one file for each set, such as forget_level1.jsonl, or a
    folder of such files for each person. Every set that is there is measured, each item once.

    Rows to forget are the people's passages, or those of `source.texts`; rows to keep are those of
    `source.retain`, for the benchmark has none. In these files, rows with another `subject` than
    the people are left out.

    Raises:
      DataError: a file, a person or a field is missing.

    """
    folder = to_source(source.dir or "")
    people = _chosen(source.forget or "", _people(folder))
    names = ", ".join(person.name for person in people)
    found = {item_set.panel: _rows(folder, item_set.file, people) for item_set in SETS}
    there = [item_set for item_set in SETS if found[item_set.panel]]
    if source.texts is not None:
        texts = _about(people, read_rows(source.texts))
    else:
        texts = _rows(folder, "passage", people)
    if not texts:
        where = source.texts or f"data.dir = {folder} (looked for passage.json and the like)"
        raise DataError(
            f"RWKU: there is no text about {names} in {where}. Texts to forget are the people's "
            "passages, or those of a file that data.texts names."
        )
    return Task(
        name=f"rwku: {names if len(people) < 4 else f'{len(people)} people'}",
        forget=tuple(as_example(row, where) for where, row in texts),
        retain=() if source.retain is None else tuple(read_examples(source.retain)),
        probes=tuple(probe for item_set in there for probe in _probes(item_set, found)),
        panels=tuple(item_set.panel for item_set in there),
        suite="rwku",
    )


def people_of(source: Source) -> tuple[str, ...]:
    """Whom `source.forget` names, in full.

    Raises:
      DataError: as in `load_rwku`.

    """
    return tuple(p.name for p in _chosen(source.forget or "", _people(to_source(source.dir or ""))))


def _people(folder: AnyPath) -> list[Person]:
    """Everyone in the data."""
    path = find_split(folder, "forget_level1")
    if path is not None:
        rows = (row for _, row in read_rows(path) if row.get("subject"))
        return list(
            dict.fromkeys(Person(row["subject"], row.get("target_dir") or "") for row in rows)
        )
    inside = sorted(folder.iterdir(), key=lambda path: path.name) if folder.is_dir() else []
    names = [path.name for path in inside if find_split(path, "forget_level1") is not None]
    if not names:
        raise DataError(
            f"RWKU: data.dir = {folder} holds neither forget_level1.json nor folders such as "
            "1_Stephen_King with such files. They are those of the data set jinzhuoran/RWKU."
        )
    return [Person(name.partition("_")[2].replace("_", " "), name) for name in names]


def _chosen(wanted: str, people: Sequence[Person]) -> tuple[Person, ...]:
    """The people that a text with commas names; some names have a comma themselves."""
    known = {_spaced(name): person for person in people for name in person if name}
    parts, chosen = [_spaced(part) for part in wanted.split(",")], []
    while parts:
        joined = (", ".join(parts[:n]) for n in range(len(parts), 0, -1))
        name = next((name for name in joined if name in known), None)
        if name is None:
            written = wanted.split(",")[-len(parts)].strip()
            near = suggest(written, [name for person in people for name in person])
            raise DataError(
                f"RWKU knows no person '{written}' among {len(people)}.{near} data.forget takes "
                "names such as 1_Stephen_King or Stephen King, with commas between them."
            )
        chosen.append(known[name])
        parts = parts[name.count(",") + 1 :]
    return tuple(dict.fromkeys(chosen))


def _spaced(name: str) -> str:
    return " ".join(name.replace("_", " ").split())


def _rows(folder: AnyPath, name: str, people: Sequence[Person]) -> Rows:
    """The rows of one set about these people; none where there is no such set."""
    path = find_split(folder, name)
    if path is not None:
        return _about(people, read_rows(path))
    paths = (find_split(folder / person.folder, name) for person in people if person.folder)
    return [row for path in paths if path is not None for row in read_rows(path)]


def _about(people: Sequence[Person], rows: Rows) -> Rows:
    names = {None, *(person.name for person in people)}
    return [(where, row) for where, row in rows if row.get("subject") in names]


def _probes(item_set: ItemSet, found: dict[Any, Rows]) -> list[Probe]:
    """Each item once: people share items of what else a model can do."""
    probes: dict[Probe, None] = {}
    for where, row in found[item_set.panel]:
        try:
            probes[item_set.probe(row, item_set.panel.name)] = None
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise DataError(
                f"{where} is no item of RWKU's {item_set.panel.name} "
                f"({type(error).__name__}: {error}); its fields are {', '.join(row)}."
            ) from error
    return list(probes)
