# SPDX-License-Identifier: Apache-2.0
"""The header of a safetensors file: checked as the safetensors library checks it, and made."""

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from unilogit_jax.strict_json import check_characters, without_repetition

END = 2**64
"""Numbers of a header are smaller."""
BITS = {
    **{"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8},
    **{"F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16},
    **{"F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32},
    **{"C64": 64, "F64": 64, "I64": 64, "U64": 64},
}
"""Size of an element of every type that the format knows."""


class Entry(NamedTuple):
    """What a header says of a tensor."""

    kind: str
    """Its type, in the words of safetensors."""
    shape: tuple[int, ...]
    start: int
    """Its first byte behind the header."""
    end: int


def parse_header(text: str, room: int) -> dict[str, Entry]:
    """The tensors of a header, by name.

    Args:
      text: the header, JSON.
      room: bytes behind it, which the tensors fill without a hole.

    Raises:
      ValueError: it is damaged: whatever the safetensors library refuses is refused.
      RecursionError: it is nested without end.

    """
    header = json.loads(text, object_pairs_hook=without_repetition, parse_constant=_no_number)
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    check_characters(text, header)
    _check_notes(header.pop("__metadata__", {}))
    entries = {name: _entry(f"{name!r:.120}", entry) for name, entry in header.items()}
    place = 0
    for entry in sorted(entries.values(), key=lambda entry: (entry.start, entry.end)):
        if entry.start != place:
            raise ValueError("its tensors overlap or leave a hole")
        place = entry.end
    if place != room:
        raise ValueError(f"{room} bytes of tensors instead of {place}")
    return entries


def make_header(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> tuple[bytes, dict[str, int]]:
    """The beginning of a safetensors file, and where the data of each tensor go in the file.

    Args:
      tensors: name -> (type, shape), in the order of the data.

    Example:
      >>> header, starts = make_header({"a": ("F32", (2,)), "b": ("BF16", (3,))})
      >>> len(header) % 8, starts["b"] - starts["a"]
      (0, 8)

    """
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (kind, shape) in tensors.items():
        start, end = end, end + BITS[kind] * math.prod(shape) // 8
        entries[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    begin = 8 + len(text)
    starts = {name: begin + entries[name]["data_offsets"][0] for name in tensors}
    return len(text).to_bytes(8, "little") + text, starts


def _check_notes(notes: Any) -> None:
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        raise ValueError(f"its __metadata__ is {notes!r:.60}, not texts by name")


def _entry(name: str, entry: Any) -> Entry:
    """A tensor's entry; `name` is for messages."""
    if not isinstance(entry, dict):
        raise ValueError(f"{name} is no JSON object")
    kind: Any = entry.get("dtype")
    shape: Any = entry.get("shape")
    offsets: Any = entry.get("data_offsets")
    if not isinstance(kind, str) or kind not in BITS:
        raise ValueError(f"{name} has the unknown type {kind!r:.60}")
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or not all(map(_is_size, numbers)):
            raise ValueError(f"{name} has shape {shape!r:.60} and data_offsets {offsets!r:.60}")
    if len(offsets) != 2 or 8 * (offsets[1] - offsets[0]) != BITS[kind] * _count(shape):
        raise ValueError(f"{name} of type {kind}, shape {shape!r:.60} lies at {offsets!r:.60}")
    return Entry(kind, tuple(shape), *offsets)


def _is_size(n: Any) -> bool:
    return type(n) is int and 0 <= n < END


def _count(shape: list[int]) -> int:
    """Elements of a shape; whatever goes beyond 64 bits on the way is refused."""
    count = 1
    for n in shape:
        count *= n
        if count >= END:  # at once: the product of a million numbers would take hours
            raise ValueError(f"the shape {shape!r:.60} is larger than any file")
    return count


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")
