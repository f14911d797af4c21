# SPDX-License-Identifier: Apache-2.0
"""Looks up what the schema expects at a path of keys, for error messages and suggestions."""

import dataclasses
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from unilogit_jax.config.find_method import method_class
from unilogit_jax.config.schema import Experiment
from unilogit_jax.config.yaml_file import KeyPath
from unilogit_jax.errors import ConfigError


def keys_below(path: KeyPath, tree: Any) -> list[str]:
    """The keys that a section may have; empty if `path` is no section.

    Args:
      path: the section; () is the whole file.
      tree: the file's values; the keys of a method depend on its `name`.

    Returns:
      Names of keys.

    Example:
      >>> keys_below(("mesh",), {})
      ['data', 'fsdp', 'tensor']

    """
    annotation, value = _at(path, tree)
    section = _section(annotation, value)
    return list(_fields(section)) if section else []


def number_at(path: KeyPath, tree: Any) -> str:
    """The kind of number that the key at `path` holds, in words; empty if it holds none.

    Pydantic reads one from true as well.
    """
    parts = _parts(_at(path, tree)[0])
    if bool in parts:
        return ""
    return "a number" if float in parts else "a whole number" if int in parts else ""


def places_of(key: str) -> list[str]:
    """Dotted names of all sections' keys that are called `key`.

    Example:
      >>> places_of("epochs")
      ['finetune.epochs', 'unlearn.epochs']

    """
    found = []
    for name, annotation in _fields(Experiment).items():
        listed = get_origin(annotation) is tuple
        sections = [part for part in _parts(annotation) if _is_section(part) and not listed]
        if any(key in _fields(section) for section in sections):
            found.append(f"{name}.{key}")
    return found


def _at(path: KeyPath, tree: Any) -> tuple[Any, Any]:
    """Annotation and value at a path; a number in the path counts the items of a list."""
    annotation: Any = Experiment
    value = tree
    for key in path:
        if isinstance(value, list) and key.isdigit():
            value = value[int(key)]
            continue
        if get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
        else:
            section = _section(annotation, value)
            annotation = _fields(section).get(key) if section else None
        value = value.get(key) if isinstance(value, dict) else None
    return annotation, value


def _section(annotation: Any, value: Any) -> type | None:
    """The class of a section; among several, the one whose `name` the value has."""
    sections = [part for part in _parts(annotation) if _is_section(part)]
    if len(sections) < 2:
        return sections[0] if sections else None
    try:
        return method_class(value.get("name") if isinstance(value, dict) else None)
    except ConfigError:
        return None


def _fields(section: type) -> dict[str, Any]:
    if issubclass(section, BaseModel):
        return {name: info.annotation for name, info in section.model_fields.items()}
    # Types may be written as text, in a file that asks for that; `name` is the class's own.
    hints = get_type_hints(section, include_extras=True)
    return {"name": str} | {f.name: hints[f.name] for f in dataclasses.fields(section)}


def _is_section(part: Any) -> bool:
    return isinstance(part, type) and (
        issubclass(part, BaseModel) or dataclasses.is_dataclass(part)
    )


def _parts(annotation: Any) -> list[Any]:
    """All alternatives of an annotation, through unions and Annotated."""
    inner = get_args(annotation)
    return [part for arg in inner for part in _parts(arg)] if inner else [annotation]
