# SPDX-License-Identifier: Apache-2.0
"""Directives that write reference pages from the package itself, so that they cannot grow stale."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from unilogit_jax.config.method_card import BOUNDS, TYPES


def setup(app: Any) -> dict[str, bool]:
    """Adds config-keys, metric-meanings and verb-help."""
    app.add_directive("config-keys", ConfigKeys)
    app.add_directive("metric-meanings", MetricMeanings)
    app.add_directive("verb-help", VerbHelp)
    return {"parallel_read_safe": True}


class ConfigKeys(SphinxDirective):
    """A section for every section of an experiment file, with a table of its keys."""

    def run(self) -> list[nodes.Node]:
        from unilogit_jax.config import Experiment

        schema = Experiment.model_json_schema()
        return [
            _section(
                title, [_paragraph(about), _table(("key", "values", "default", "meaning"), keys)]
            )
            for title, about, keys in _config_sections(schema)
        ]


class MetricMeanings(SphinxDirective):
    """The numbers of a run's table, which way is good, and what they say."""

    def run(self) -> list[nodes.Node]:
        from unilogit_jax.evaluation import MEANINGS

        rows = [(m.title, m.direction, f"{m.explanation}.") for m in MEANINGS.values()]
        return [_table(("number", "better", "what it says"), rows)]


class VerbHelp(SphinxDirective):
    """What `unilogit VERB -h` prints, for every verb."""

    def run(self) -> list[nodes.Node]:
        from unilogit_jax.cli import VERBS
        from unilogit_jax.cli._parser import parser_of

        sections = []
        for verb in VERBS:
            text = parser_of(verb)[0].format_help()
            sections.append(_section(f"unilogit {verb}", [nodes.literal_block(text, text)]))
        return sections


def _config_sections(schema: dict[str, Any]) -> Iterable[tuple[str, str, list[Sequence[str]]]]:
    """Title, meaning and rows of each section: the top of the file, then depth first."""
    waiting = [("Top level", "", schema)]
    while waiting:
        title, prefix, section = waiting.pop(0)
        rows, below = [], []
        for key, field in section["properties"].items():
            path = f"{prefix}{key}"
            for child in _children(field, schema):
                # Methods have a page of their own.
                if "const" not in child["properties"].get("name", {}):
                    below.append((path, f"{path}.", child))
            default = "required" if key in section.get("required", ()) else _default(field)
            about = field.get("description") or _about(field, schema)
            rows.append((f"`{path}`", _values(field, schema), default, about))
        waiting = below + waiting
        yield title, section.get("description", "").partition("\n")[0], rows


def _children(field: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The sections that a key may hold."""
    parts = [field, *field.get("anyOf", ()), *field.get("oneOf", ())]
    references = [part["$ref"].rpartition("/")[2] for part in parts if "$ref" in part]
    return [schema["$defs"][name] for name in references]


def _values(field: dict[str, Any], schema: dict[str, Any]) -> str:
    """What a key takes, in words."""
    if "anyOf" in field:
        return " or ".join(_values(part, schema) for part in field["anyOf"])
    if "oneOf" in field:
        return "a method"
    if "$ref" in field:
        return "a section"
    if "const" in field:
        return str(field["const"])
    if "enum" in field:
        return ", ".join(field["enum"])
    if field["type"] == "array":
        return "a list of texts" if field["items"].get("type") == "string" else "a list of methods"
    if field["type"] == "object":
        return f"text: {_values(field['additionalProperties'], schema)}"
    if field["type"] == "null":
        return "null"
    bounds = " and ".join(f"{sign} {field[key]}" for key, sign in BOUNDS.items() if key in field)
    return f"{TYPES[field['type']]} {bounds}".strip()


def _about(field: dict[str, Any], schema: dict[str, Any]) -> str:
    """For a key without words of its own: those of the section it holds."""
    children = _children(field, schema)
    return children[0]["description"] if children else ""


def _default(field: dict[str, Any]) -> str:
    value = field.get("default")
    if isinstance(value, dict):
        return value.get("name", "")
    return value if isinstance(value, str) else json.dumps(value)


def _section(title: str, contents: Sequence[nodes.Node]) -> nodes.section:
    section = nodes.section(ids=[nodes.make_id(title)], names=[nodes.fully_normalize_name(title)])
    section += nodes.title(title, title)
    section += contents
    return section


def _paragraph(text: str) -> nodes.paragraph:
    """Text in which backticks mark code."""
    paragraph = nodes.paragraph()
    for i, part in enumerate(text.split("`")):
        paragraph += nodes.literal(part, part) if i % 2 else nodes.Text(part)
    return paragraph


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> nodes.table:
    group = nodes.tgroup(cols=len(heading))
    group += [nodes.colspec(colwidth=1) for _ in heading]
    head, body = nodes.thead(), nodes.tbody()
    head += _row(heading)
    body += [_row(row) for row in rows]
    group += [head, body]
    table = nodes.table()
    table += group
    return table


def _row(cells: Iterable[str]) -> nodes.row:
    row = nodes.row()
    for text in cells:
        entry = nodes.entry()
        entry += _paragraph(text)
        row += entry
    return row
