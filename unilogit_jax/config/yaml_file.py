# SPDX-License-Identifier: Apache-2.0
"""YAML that remembers the line of every key and refuses what YAML would swallow silently."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.reader import ReaderError

from unilogit_jax.errors import ConfigError, StorageError
from unilogit_jax.paths import AnyPath

KeyPath = tuple[str, ...]
"""A key and the sections it lies in, outermost first."""

_STRING = "tag:yaml.org,2002:str"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")

LARGEST = 1_000_000
"""Bytes of a file; what is larger is no configuration, and would be read for minutes."""
_LONGEST = 100
"""Characters of a number; longer ones are no settings, and some take long to convert."""


@dataclass(frozen=True)
class Document:
    """What a YAML text holds, and where."""

    values: Any
    lines: dict[KeyPath, int] = field(default_factory=dict)
    """Line of each key, counted from 1."""
    repeated: list[tuple[KeyPath, int, int]] = field(default_factory=list)
    """Keys that come twice: path, line, line of the first."""


class YamlError(Exception):
    """A text is not the YAML that is read here; `line` is None where it is not known."""

    def __init__(self, line: int | None, problem: str):
        super().__init__(problem)
        self.line, self.problem = line, problem


def read_yaml(path: AnyPath) -> Document:
    """Reads one file.

    Raises:
      ConfigError: the file cannot be read, is not text, is empty, or is not valid YAML.

    """
    try:
        if isinstance(path, Path) and (size := path.stat().st_size) > LARGEST:
            raise ConfigError(
                f"config error in {path}: the file has {size:,} bytes; a configuration has at most "
                f"{LARGEST:,}."
            )
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"config error in {path}: the file is not UTF-8 text (byte {error.start})."
        ) from None
    except StorageError:
        raise
    except OSError as error:
        raise ConfigError(f"the config file {path} cannot be read: {error.strerror}.") from None
    try:
        document = parse_yaml(text)
    except YamlError as error:
        where = f"  line {error.line}" if error.line else "  file"
        raise ConfigError(f"config error in {path}\n{where}  {error.problem}.") from None
    if document.values is None:
        raise ConfigError(
            f"config error in {path}: the file holds no keys. Start from 'unilogit show toy'."
        )
    if not isinstance(document.values, dict):
        found = "a list" if isinstance(document.values, list) else "a single value"
        raise ConfigError(
            f"config error in {path}: the file has to hold 'key: value' lines at its top level, "
            f"it holds {found}."
        )
    return document


def parse_yaml(text: str) -> Document:
    """Reads YAML text: plain values only, keys as text, dates as text, no anchors and no tags.

    Raises:
      YamlError: with the line and the problem.

    Example:
      >>> parse_yaml("unlearn: {steps: 60}").values
      {'unlearn': {'steps': 60}}

    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return Document(None)
        document = Document({})
        _scan(node, (), document)
        return Document(loader.construct_document(node), document.lines, document.repeated)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise YamlError(line, _readable(error)) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlError(line, "not valid YAML: a control character") from None
    except (ValueError, OverflowError) as error:
        raise YamlError(None, f"not valid YAML: {error}") from None
    except RecursionError:
        raise YamlError(None, "not valid YAML: nested too deeply") from None


class _Loader(yaml.SafeLoader):
    """Plain values only. Dates stay text; aliases and tags are refused: a file means what it shows.

    PyYAML's own errors for values that do not fit their tag are of many kinds.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 (a class attribute of the parent)
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise ComposerError(
                None, None, "anchors (& and *) are not read here, write the value out", mark
            )
        event = self.peek_event()
        if (tag := getattr(event, "tag", None)) is not None:
            raise ComposerError(
                None, None, f"tags such as {tag[:40]!r} are not read here", event.start_mark
            )
        return super().compose_node(parent, index)


def _scan(node: yaml.Node, path: KeyPath, document: Document) -> None:
    """Notes lines and repeated keys, and makes keys text (else `no:` would be the key False)."""
    if isinstance(node, yaml.ScalarNode):
        _check_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            document.lines[(*path, str(index))] = item.start_mark.line + 1
            _scan(item, (*path, str(index)), document)
    if not isinstance(node, yaml.MappingNode):
        return
    first: dict[str, int] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        key.tag = _STRING
        _check_scalar(key)
        here, line = (*path, key.value), key.start_mark.line + 1
        if key.value in first:
            document.repeated.append((here, line, first[key.value]))
        first[key.value] = document.lines[here] = line
        _scan(value, here, document)


def _check_scalar(node: yaml.ScalarNode) -> None:
    """Refuses what nothing behind can take: characters that no file holds, endless numbers."""
    line, text = node.start_mark.line + 1, node.value
    if odd := re.search("[\\0\\ud800-\\udfff]", text):
        raise YamlError(line, f"not valid YAML: the character {odd[0]!r} in a text")
    if node.tag in _NUMBERS and len(text) > _LONGEST:
        raise YamlError(line, f"not valid YAML: a number of {len(text)} characters")


def _readable(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or str(error)
    if "'\\t'" in problem:
        return "not valid YAML: a tab; indent with spaces"
    if "mapping values are not allowed here" in problem:
        return "not valid YAML: a second ':' in one line; put text that holds a ':' in quotes"
    context = f" {error.context}" if error.context and "while" in error.context else ""
    return f"not valid YAML: {problem}{context and f' ({context.strip()})'}"
