# SPDX-License-Identifier: Apache-2.0
"""What there is to know of a method, out of its docstring, its fields and its `needs`."""

import dataclasses
import inspect
import json
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from unilogit_jax.config.find_method import method_class
from unilogit_jax.config.method_field import adapter_of
from unilogit_jax.methods import Finishing, Needs, Unlearning
from unilogit_jax.types import ALTERNATE, FORGET, RETAIN, RETAIN_ALTERNATE

_SETS = {
    FORGET: "forget answers",
    RETAIN: "retain answers",
    ALTERNATE: "other answers to the forget questions",
    RETAIN_ALTERNATE: "other answers to the retain questions",
}
_ANSWERS = {
    "refusal": "a refusal of each forget question (data.refusals)",
    "answer": "another answer to each forget question (in the rows or data.alternates)",
    "relabelled": "a refusal's tokens as labels of each forget answer (data.refusals)",
    "retain_refusal": "a refusal of each retain question (data.refusals)",
}
_EXTRAS = {
    "top_logprob": "the log-probability of each forget token's likeliest rival",
    "logit_gap": "the largest logit less the mean of all, at each forget token",
}
_TAU = "each forget token's own label probability ({})"
TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true, false"}
"""Type of a JSON schema -> what it is called."""
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
"""Bound of a number in a JSON schema -> its sign."""


class Key(NamedTuple):
    """A field of a method, as a configuration has it."""

    name: str
    values: str
    default: str
    meaning: str


@dataclass(frozen=True)
class MethodCard:
    """A method, explained."""

    name: str
    summary: str
    """The first line of the docstring."""
    body: tuple[tuple[bool, str], ...]
    """Its paragraphs: whether it is a formula, text."""
    notes: tuple[str, ...]
    """Its remarks: where it differs from other code."""
    papers: tuple[str, ...]
    """arXiv numbers."""
    keys: tuple[Key, ...]
    """Its own fields, then those of all methods."""
    needs: tuple[str, ...]
    """What it has to be given, in words; empty if that is nothing."""


def method_card(name: str) -> MethodCard:
    """Explains a method of the table, or one of your own as my_package.my_file:MyMethod.

    Raises:
      ConfigError: there is no such method.

    Example:
      >>> card = method_card("npo")
      >>> card.papers, card.keys[0].name, card.needs
      (('2404.05868',), 'beta', ("the start model's log-odds of the labels of forget answers",))

    """
    cls = method_class(name)
    documented = inspect.getdoc(cls) or ""
    paragraphs = [part for part in documented.split("\n\n") if part.strip()]
    body, notes = [], []
    for part in paragraphs[1:]:
        if part.startswith("Example:"):
            break
        if part.startswith("Note:"):
            notes.append(_joined(part.removeprefix("Note:")))
        elif not part.startswith("Reference"):
            # As in the rest of the documentation: a sentence ends like one.
            formula = part.startswith("    ") or part.rstrip()[-1] not in ".:!?"
            body.append((formula, part if formula else _joined(part)))
    return MethodCard(
        name=name,
        summary=_joined(paragraphs[0]) if paragraphs else "",
        body=tuple(body),
        notes=tuple(notes),
        papers=papers_of(cls),
        keys=tuple(_keys(cls)),
        needs=_needs(cls),
    )


def papers_of(cls: type[Any]) -> tuple[str, ...]:
    """ArXiv numbers of a method's docstring, or else of its module's."""
    for documented in (cls, inspect.getmodule(cls)):
        if found := re.findall(r"arXiv:(\d{4}\.\d{4,5})", inspect.getdoc(documented) or ""):
            return tuple(dict.fromkeys(found))
    return ()


def needs_in_words(needs: Needs) -> tuple[str, ...]:
    """What a method has to be given, a line each.

    Example:
      >>> needs_in_words(Needs(ref_hidden=frozenset({2})))
      ("the start model's last hidden states of retain answers",)

    """
    lines = []
    teacher = "the start model's" if needs.reinforced is None else "the teacher's"
    if needs.ref_log_odds:
        lines.append(f"{teacher} log-odds of the labels of {_named(needs.ref_log_odds)}")
    if needs.ref_hidden:
        where = (
            "last hidden states" if needs.layer is None else f"hidden states at layer {needs.layer}"
        )
        lines.append(f"the start model's {where} of {_named(needs.ref_hidden)}")
    if needs.reinforced is not None:
        lines.append("a model trained further on the forget rows, in a stage before (see unlearn)")
    if needs.ref_top:
        lines.append(f"{teacher} {needs.ref_top} likeliest tokens at each forget token")
    if needs.tau:
        lines.append(_TAU.format(needs.tau.replace("_", " ")))
    lines += [text for kind, text in _ANSWERS.items() if kind in needs.alternates]
    lines += [text for kind, text in _EXTRAS.items() if kind in needs.extras]
    if not needs.forget:
        lines.append("not the forget answers: it looks at their questions only")
    return tuple(lines)


def _named(sets: frozenset[int]) -> str:
    return " and of ".join(_SETS[which] for which in sorted(sets))


def _needs(cls: type[Any]) -> tuple[str, ...]:
    try:
        method = cls()
        end = ("the start weights to the end of training",) * isinstance(method, Finishing)
        return (*needs_in_words(method.needs), *end)
    except TypeError:
        return ("whatever the fields ask for that have no default",)


def _keys(cls: type[Any]) -> list[Key]:
    """The class's own first; `name` is no hyper-parameter."""
    schema = adapter_of(cls).json_schema()
    shared = {f.name for f in dataclasses.fields(Unlearning)}
    defs = schema.get("$defs", {})
    # Pydantic reads the docstrings of a class's own fields, not those of its bases.
    meanings: dict[str, str] = {}
    for base in filter(dataclasses.is_dataclass, cls.__mro__[1:]):
        for name, field in adapter_of(base).json_schema()["properties"].items():
            if "description" in field:
                meanings.setdefault(name, field["description"])
    found = [
        Key(
            name,
            _values(field, defs),
            "required" if name in schema.get("required", ()) else _text(field.get("default")),
            _joined(field.get("description") or meanings.get(name, "")),
        )
        for name, field in schema["properties"].items()
        if name != "name"
    ]
    return sorted(found, key=lambda key: key.name in shared)


def _values(field: dict[str, Any], defs: dict[str, Any]) -> str:
    """What a key takes, in words."""
    if "anyOf" in field:
        return " or ".join(_values(part, defs) for part in field["anyOf"])
    if "$ref" in field:
        return _values(defs[field["$ref"].rpartition("/")[2]], defs)
    if "enum" in field or "const" in field:
        return ", ".join(map(_text, field.get("enum", [field.get("const")])))
    if field.get("type") == "array":
        return "a list"
    bounds = " and ".join(f"{sign} {field[key]:g}" for key, sign in BOUNDS.items() if key in field)
    kind = str(field.get("type", "any"))
    return f"{TYPES.get(kind, kind)} {bounds}".strip()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _joined(text: str) -> str:
    return " ".join(text.split())
