# SPDX-License-Identifier: Apache-2.0
"""Turns what pydantic reports into sentences: where, what, and what was probably meant."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import ValidationError

from unilogit_jax.config.fields import keys_below, number_at, places_of
from unilogit_jax.config.method_field import NO_METHOD, NO_NAME
from unilogit_jax.config.yaml_file import KeyPath
from unilogit_jax.errors import suggest
from unilogit_jax.methods import METHODS

_WANTS = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "literal_error": "one of {expected}",
    "string_type": "text",
    "tuple_type": "a list",
}
_MOST = 100
"""Mistakes of a file that are looked into; each takes milliseconds."""
OVERRIDE = sys.maxsize
"""Stands for the line of a value that an override set: sorted behind all lines."""

_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")
_NO_SECTION = ("model_type", "dataclass_type", "model_attributes_type")


class Problem(NamedTuple):
    """One line of the error message."""

    line: int
    """Counted from 1; 0 is the whole file, `OVERRIDE` an override."""
    text: str

    def __str__(self) -> str:
        where = {0: "file", OVERRIDE: "override"}.get(self.line, f"line {self.line}")
        return f"  {where}  {self.text}"


@dataclass(frozen=True)
class Origins:
    """Where the values come from: lines of the file, and keys set by overrides."""

    lines: dict[KeyPath, int]
    overrides: set[KeyPath]

    def line(self, path: KeyPath) -> int:
        """Line of the key or of the innermost section around it; 0 or `OVERRIDE`."""
        if any(path[: len(o)] == o for o in self.overrides):
            return OVERRIDE
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return OVERRIDE if self.below(path) else 0

    def below(self, path: KeyPath) -> list[KeyPath]:
        """Overrides of keys inside the section at `path`."""
        return sorted(o for o in self.overrides if o[: len(path)] == path)


def problems_of(error: ValidationError, tree: dict[str, Any], origins: Origins) -> list[Problem]:
    """One problem per error (one per sentence for checks of the whole file).

    Numbers given as true or false are left to `bools_for_numbers`.

    Args:
      error: what pydantic raised for `tree`.
      tree: the values that were read.
      origins: where they come from.

    Returns:
      Problems, in pydantic's order.

    """
    found: list[Problem] = []
    choices: dict[KeyPath, list[dict[str, Any]]] = {}
    entries = error.errors(include_url=False)
    if len(entries) > _MOST:
        found.append(Problem(0, f"{len(entries)} mistakes, of which the first {_MOST} follow."))
    for entry in entries[:_MOST]:
        path = tuple(str(part) for part in entry["loc"])
        if _is_choice(path, tree):
            choices.setdefault(path[:-1], []).append(dict(entry))
            continue
        if entry["type"] in (NO_METHOD, NO_NAME):
            path = (*path, "name")
        if isinstance(entry["input"], bool) and number_at(path, tree):
            continue  # whatever pydantic makes of it, `bools_for_numbers` says it
        if not path and entry["type"] == "value_error":
            found.extend(_whole_file(entry["msg"].removeprefix("Value error, "), origins))
        elif entry["type"] == "value_error" and isinstance(entry["input"], dict):
            found.append(_section_wide(path, entry["msg"], origins))
        elif entry["type"] in _UNKNOWN_KEY and path not in origins.lines:
            below = origins.below(path) or [path]
            found.extend(Problem(OVERRIDE, _unknown(whole, path, tree)) for whole in below)
        else:
            found.append(Problem(origins.line(path), _sentence(dict(entry), path, tree)))
    return found + [
        Problem(origins.line(path), _wants(path, entries)) for path, entries in choices.items()
    ]


def bools_for_numbers(tree: dict[str, Any], origins: Origins) -> list[Problem]:
    """Finds true and false where a number belongs, which pydantic would read as 1 and 0."""

    def walk(value: Any, path: KeyPath) -> Iterator[Problem]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from walk(inner, (*path, key))
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                yield from walk(inner, (*path, str(index)))
        elif isinstance(value, bool) and (kind := number_at(path, tree)):
            text = f"'{'.'.join(path)}' wants {kind}, got {_shown(value)}."
            yield Problem(origins.line(path), text)

    return list(walk(tree, ()))


def _sentence(entry: dict[str, Any], path: KeyPath, tree: Any) -> str:
    kind, name, value = entry["type"], ".".join(path), entry["input"]
    if kind in _UNKNOWN_KEY:
        return _unknown(path, path, tree)
    if kind == "missing":
        return f"missing key '{name}'."
    if kind == NO_NAME:
        return f"missing key '{name}', one of {', '.join(METHODS)}."
    if kind == NO_METHOD:
        return entry["ctx"]["sentence"]
    if kind in _NO_SECTION:
        keys = keys_below(path, tree) or ["name"]
        hint = f" Write {{name: {value}}}." if value in list(METHODS) else ""
        return f"'{name}' wants keys of its own ({', '.join(keys)}), got {_shown(value)}.{hint}"
    if kind not in _WANTS:
        return f"'{name}': {entry['msg']}, got {_shown(value)}."
    return _wants(path, [entry])


def _wants(path: KeyPath, entries: list[dict[str, Any]]) -> str:
    """What may stand at a key; an entry for each kind of value."""
    kinds, value = [entry["type"] for entry in entries], entries[0]["input"]
    texts = [_WANTS[e["type"]].format(**e.get("ctx", {})) for e in entries if e["type"] in _WANTS]
    wants, hint = " or ".join(dict.fromkeys(texts)), ""
    if "literal_error" in kinds and isinstance(value, str):
        hint = suggest(value, re.findall(r"'([^']*)'", wants))
    if kinds == ["string_type"] and isinstance(value, bool | int | float):
        hint = " Put it in quotes."
    return f"'{'.'.join(path)}' wants {wants}, got {_shown(value)}.{hint}"


def _is_choice(path: KeyPath, tree: Any) -> bool:
    """Whether the last part is one of the types that a single value may have, and no key."""
    for key in path[:-1]:
        if isinstance(tree, list) and key.isdigit() and int(key) < len(tree):
            tree = tree[int(key)]
        elif isinstance(tree, dict) and key in tree:
            tree = tree[key]
        else:
            return False
    item = isinstance(tree, list) and path[-1].isdigit()
    return len(path) > 2 and not isinstance(tree, dict) and not item


def _unknown(whole: KeyPath, path: KeyPath, tree: Any) -> str:
    """`whole` is the key as written; `path` ends at the first part of it that is unknown."""
    key, known, elsewhere = path[-1], keys_below(path[:-1], tree), places_of(path[-1])
    hint = suggest(key, known)
    if not hint and elsewhere:
        places = " or ".join(f"'{place}'" for place in elsewhere)
        hint = f" Did you mean {places}?"
    if not hint:
        hint = f" Keys here: {', '.join(known)}."
    return f"unknown key '{'.'.join(whole)}'.{hint}"


def _section_wide(path: KeyPath, message: str, origins: Origins) -> Problem:
    """A check across the keys of a section, at the first key it names that was written."""
    sentence = message.removeprefix("Value error, ")
    named = [(*path, word) for word in re.findall(r"\b[a-z_]+\b", sentence)]
    written = [key for key in named if key in origins.overrides] or [
        key for key in named if key in origins.lines
    ]
    return Problem(origins.line((written or [path])[0]), f"'{'.'.join(path)}': {sentence}.")


def _whole_file(message: str, origins: Origins) -> list[Problem]:
    """Checks across keys; a sentence goes to the line of the first key it names that is there."""
    found = []
    for sentence in message.split("; "):
        named = [tuple(word.split(".")) for word in re.findall(r"\b[a-z_]+\.[a-z_]+\b", sentence)]
        lines = [line for path in named if (line := origins.line(path))]
        found.append(Problem(lines[0] if lines else 0, f"{sentence}."))
    return found


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a group of keys"
    if isinstance(value, list):
        return "a list"
    text = f"'{value}'" if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
