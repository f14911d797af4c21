# SPDX-License-Identifier: Apache-2.0
"""Your own rows: a file to forget and, where there are some, files to keep and never seen."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from unilogit_jax.data import (
    PANELS,
    Example,
    Panel,
    Probe,
    Source,
    Task,
    as_example,
    read_rows,
    texts_of,
)
from unilogit_jax.errors import DataError

HOLDOUT = Panel(name="holdout", new_tokens=0)
"""Rows that no model has seen: only how likely they are says something."""


def load_files(source: Source) -> Task:
    """Reads `source.forget`, `source.retain` and `source.holdout`; their rows are measured too.

    Each is a file or a set of the Hub, as `read_examples` takes them. Besides, a row may have a
    `paraphrase` of its answer, a list `wrong` of other answers of the same form, a list `answers`
    of further true ones, a `kind` and an `id`, which results keep. Wrong answers are
    also other answers to teach, where `alternates` are not given.

    Raises:
      DataError: a file is missing or a row is not of the expected form.

    """
    places = {"forget": source.forget or "", "retain": source.retain, "holdout": source.holdout}
    found = {group: _read(place, group) for group, place in places.items() if place is not None}
    rows = {group: tuple(example for example, _ in pairs) for group, pairs in found.items()}
    return Task(
        name="files",
        forget=rows["forget"],
        retain=rows.get("retain", ()),
        probes=tuple(probe for pairs in found.values() for _, probe in pairs),
        panels=(*PANELS, HOLDOUT) if "holdout" in found else PANELS,
    )


def as_probes(examples: Sequence[Example], group: str) -> tuple[Probe, ...]:
    """Asks training rows back, word for word."""
    return tuple(
        Probe(e.question, e.answer, group, shots=e.shots, system=e.system) for e in examples
    )


def _read(path: str, group: str) -> list[tuple[Example, Probe]]:
    """The rows of a file, each as what is trained and what is asked."""
    pairs = [_pair(row, where, group) for where, row in read_rows(path)]
    if not pairs:
        raise DataError(f"{path} is empty: expected at least one row.")
    return pairs


def _pair(row: dict[str, Any], where: str, group: str) -> tuple[Example, Probe]:
    example = as_example(row, where)
    wrong = texts_of(row, "wrong", where)
    (probe,) = as_probes([example], group)
    probe = replace(
        probe,
        wrong=wrong,
        paraphrase=_text(row, "paraphrase", where) or None,
        answers=texts_of(row, "answers", where),
        kind=_text(row, "kind", where),
        name=_text(row, "id", where),
    )
    return replace(example, alternates=example.alternates or wrong), probe


def _text(row: dict[str, Any], name: str, where: str) -> str:
    """A field that holds a text or a number, or nothing."""
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise DataError(f"{where}: '{name}' must be text, got {type(value).__name__}.")
    return str(value)
