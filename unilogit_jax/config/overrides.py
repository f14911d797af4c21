# SPDX-License-Identifier: Apache-2.0
"""`key.sub=value` arguments, laid over the values of a file."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from unilogit_jax.config.find_method import method_class
from unilogit_jax.config.yaml_file import KeyPath, YamlError, parse_yaml
from unilogit_jax.errors import ConfigError
from unilogit_jax.methods import METHODS

_NAME: KeyPath = ("method", "name")
_DEEPEST = 8
"""Keys below each other in an override; the schema has at most four."""


@dataclass(frozen=True)
class Applied:
    """What overrides did to a file's values."""

    paths: set[KeyPath] = field(default_factory=set)
    """Keys that were set."""
    notes: list[str] = field(default_factory=list)
    """What the user should know, one sentence each."""
    problems: list[str] = field(default_factory=list)
    """Overrides that could not be applied, and why."""


def apply_overrides(tree: dict[str, Any], overrides: Iterable[str]) -> Applied:
    """Sets values in `tree`, in order; whether keys exist is left to validation.

    Another `method.name` goes first, whatever its place: keys of the file's method that the new one
    does not know are dropped, with a note.

    Args:
      tree: the file's values; changed in place.
      overrides: `key.sub=value` each, the value in YAML.

    Returns:
      What was set, dropped and refused.

    """
    applied = Applied()
    settings = [setting for text in overrides if (setting := _parse(text, applied))]
    given = {path[1] for path, _ in settings if path[0] == "method" and len(path) == 2}
    for path, value in sorted(settings, key=lambda setting: setting[0] != _NAME):
        if path == _NAME:
            applied.notes.extend(_swap_method(tree, value, given))
        _set(tree, path, value, applied)
    return applied


def _parse(text: str, applied: Applied) -> tuple[KeyPath, Any] | None:
    key, equals, value = text.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path) or len(path) > _DEEPEST:
        applied.problems.append(
            f"'{text:.60}' is not of the form key=value, such as unlearn.steps=60."
        )
        return None
    try:
        document = parse_yaml(value)
    except YamlError as error:
        applied.problems.append(f"the value of '{key}' is {error.problem}.")
        return None
    for repeated, _, _ in document.repeated:
        applied.problems.append(f"'{key}' names '{'.'.join(repeated)}' twice.")
    return path, document.values


def _set(tree: dict[str, Any], path: KeyPath, value: Any, applied: Applied) -> None:
    section = tree
    for depth, key in enumerate(path[:-1], start=1):
        if section.get(key) is None:
            section[key] = {}
        section = section[key]
        if not isinstance(section, dict):
            inner = ".".join(path[:depth])
            applied.problems.append(f"'{'.'.join(path)}': '{inner}' is a value and has no keys.")
            return
    section[path[-1]] = value
    applied.paths.add(path)


def _swap_method(tree: dict[str, Any], new: Any, given: set[str]) -> list[str]:
    """Drops keys of the file's method that the new one does not share; returns a note, if any.

    A key of both whose defaults differ means another thing to each: the number is not kept either.
    """
    method = tree.get("method")
    old = method.get("name") if isinstance(method, dict) else None
    if not isinstance(method, dict) or old in (None, new):
        return []
    try:
        cls = method_class(new)
    except ConfigError:
        return []  # validation says so
    known = _defaults(cls)
    mine = _defaults(METHODS[old]) if old in METHODS else known
    known = {"name": None} | {k: v for k, v in known.items() if mine.get(k) == v}
    dropped = [key for key in method if key not in known and key not in given]
    # What would be so anyway is not worth a word.
    kept = [
        f"{key} {value}"
        for key, value in method.items()
        if key in known.keys() - {"name", *dropped} - given and value != known[key]
    ]
    for key in dropped:
        del method[key]
    said = [f"dropped {', '.join(dropped)}"] if dropped else []
    said += [f"kept from the file: {', '.join(kept)}"] if kept else []
    return ["; ".join([f"method {old} -> {new}", *said])] if said else []


def _defaults(method: type) -> dict[str, Any]:
    return {f.name: f.default for f in dataclasses.fields(method)}
