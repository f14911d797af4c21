# SPDX-License-Identifier: Apache-2.0
"""Makes reStructuredText of docstrings that are written to be read as plain text."""

import re
from typing import Any

_SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Attributes|Example):\s*$")
_REMARK = re.compile(r"^(Reference|Note): ")
_MARKUP = re.compile(r"``[^`]*``|`[^`]*`|[*|\\]|(?<=\w)_(?!\w)")


def setup(app: Any) -> dict[str, bool]:
    """Runs before napoleon, which is at the usual priority of 500."""
    app.connect("autodoc-process-docstring", _process, priority=400)
    return {"parallel_read_safe": True}


def _process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = convert(lines)


def convert(lines: list[str]) -> list[str]:
    """Formulas become literal blocks, remarks paragraphs, and no character is taken for markup."""
    out: list[str] = []
    in_section = False
    for first, paragraph in enumerate(_paragraphs(lines)):
        if _SECTION.match(paragraph[0]):
            in_section = True
        if _REMARK.match(paragraph[0]):
            out += [_escape(" ".join(line.strip() for line in paragraph)), ""]
        elif not in_section and first and _is_formula(paragraph):
            out += ["::", "", *("    " + line for line in paragraph), ""]
        else:
            out += [*_text(paragraph), ""]
    return out


def _paragraphs(lines: list[str]) -> list[list[str]]:
    """Blocks between blank lines; a remark that follows another one is a block of its own."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        if not line.strip() or _REMARK.match(line):
            blocks.append([])
        if line.strip():
            blocks[-1].append(line)
    return [block for block in blocks if block]


def _is_formula(paragraph: list[str]) -> bool:
    """Formulas and tables end without a full stop, sentences with one."""
    return paragraph[0].startswith("    ") or paragraph[-1].rstrip()[-1] not in ".:!?"


def _text(paragraph: list[str]) -> list[str]:
    out, in_code = [], False
    for line in paragraph:
        in_code = in_code or line.lstrip().startswith(">>>")
        out.append(line if in_code else _escape(line))
    return out


def _escape(line: str) -> str:
    def replace(match: re.Match[str]) -> str:
        if not match[0].startswith("`"):
            return f"\\{match[0]}"
        # Code with an ending, such as a plural s, has to be divided from it.
        return match[0] + ("\\ " if line[match.end() : match.end() + 1].isalnum() else "")

    return _MARKUP.sub(replace, line)
