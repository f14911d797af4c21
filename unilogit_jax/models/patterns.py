# SPDX-License-Identifier: Apache-2.0
"""Patterns that name parts of a model, such as q_proj, layers.mlp.* or layers.5-7.mlp.down_proj."""

import re
from fnmatch import fnmatchcase
from typing import NamedTuple

_NUMBERED = re.compile(r"layers\.(\d+)(?:-(\d+))?(?:\.(.+))?")


class Pattern(NamedTuple):
    """A pattern taken apart."""

    text: str
    """What names are compared with; within a layer, where there are numbers."""
    layers: range | None = None
    """The layers that it is about; None: all of them, and what is in no layer."""


def parse_pattern(pattern: str) -> Pattern:
    """Takes the numbers of layers out of a pattern.

    Example:
      >>> parse_pattern("layers.5-7.mlp.down_proj")
      Pattern(text='mlp.down_proj', layers=range(5, 8))
      >>> parse_pattern("layers.0")
      Pattern(text='*', layers=range(0, 1))
      >>> parse_pattern("layers.mlp.*")
      Pattern(text='layers.mlp.*', layers=None)

    """
    found = _NUMBERED.fullmatch(pattern)
    if found is None:
        return Pattern(pattern)
    first, last, rest = found.groups()
    return Pattern(rest or "*", range(int(first), int(last or first) + 1))


def fits(pattern: str, name: str) -> bool:
    """Whether a pattern without numbers fits a dotted name, or its end from a dot on.

    Example:
      >>> [fits(p, "layers.attn.q_proj") for p in ("q_proj", "layers.*", "*.q_*", "proj")]
      [True, True, True, False]

    """
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")
