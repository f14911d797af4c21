# SPDX-License-Identifier: Apache-2.0
"""What a compiled program needs of each device: memory, and what it exchanges with the others."""

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple


class Memory(NamedTuple):
    """Bytes of one device, by the compiler's own count."""

    arguments: int
    outputs: int
    """Those that do not take the place of an argument."""
    temporaries: int
    code: int

    @property
    def total(self) -> int:
        """All that the program needs at once."""
        return sum(self)


class Traffic(NamedTuple):
    """What one device exchanges in one run of a program, by kind of collective."""

    kind: str
    times: int
    """How often; a collective in a loop counts once per turn."""
    bytes: int
    """Of the arrays put together, scattered or reduced, as large as they are at their largest."""


def memory_of(compiled: Any) -> Memory:
    """The memory of a compiled program."""
    found = compiled.memory_analysis()
    return Memory(
        arguments=found.argument_size_in_bytes,
        outputs=found.output_size_in_bytes - found.alias_size_in_bytes,
        temporaries=found.temp_size_in_bytes,
        code=found.generated_code_size_in_bytes,
    )


def traffic_of(text: str) -> list[Traffic]:
    """The collectives of a compiled program, from its HLO text (`compiled.as_text()`).

    Loops of a fixed number of turns are multiplied out; others, such as the head's over blocks of
    tokens, count as one turn. Inside these our programs exchange three numbers a token.

    Example:
      >>> traffic_of('''
      ... ENTRY %main (x: f32[4]) -> f32[8] {
      ...   %x = f32[4]{0} parameter(0)
      ...   ROOT %y = f32[8]{0} all-gather(%x), channel_id=1, dimensions={0}
      ... }''')
      [Traffic(kind='all-gather', times=1, bytes=32)]

    """
    bodies, entry = _computations(text)
    # TPUs cut one collective into pieces that run beside matmuls. These share a channel and a size,
    # and may lie in a loop while the collective begins before it: it happens as often as its rarest
    # piece. Collectives that have nothing to do with each other share a channel at times.
    channels: dict[str, tuple[str, int, int]] = {}
    _visit(entry, 1, bodies, channels)
    totals: dict[str, list[int]] = {}
    for kind, size, times in channels.values():
        total = totals.setdefault(kind, [0, 0])
        total[0] += times
        total[1] += times * size
    return [Traffic(kind, *totals[kind]) for kind in sorted(totals)]


KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_COLLECTIVE = re.compile(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\(")
_NAME = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = ")
_ARRAY = re.compile(r"\b(pred|[suf]\d+|bf16|f8\w+)\[([\d,]*)\]")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{\s*$")
_CALLED = re.compile(r"(?:calls|to_apply|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_LOOP = re.compile(r" while\(.*?condition=%?([\w.-]+), body=%?([\w.-]+)")
_TURNS = re.compile(r'known_trip_count":\{"n":"(\d+)"')
_CHANNEL = re.compile(r"channel_id=(\d+)")
_PIECE = re.compile(r'chain_id="|async_collective_name="')
_BITS = {"pred": 8, "bf16": 16}


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """Name -> instructions, and the name of the one that the program starts with."""
    bodies: dict[str, list[str]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if header := _HEADER.match(line):
            current = header[2]
            bodies[current] = []
            entry = current if header[1] else entry
        elif line.rstrip() == "}":
            current = None
        elif current is not None:
            bodies[current].append(line)
    return bodies, entry


def _visit(
    name: str, times: int, bodies: dict[str, list[str]], channels: dict[str, tuple[str, int, int]]
) -> None:
    scattered = name.startswith("all-reduce-scatter")
    for line in bodies.get(name, ()):
        if found := _COLLECTIVE.search(line):
            kind = "reduce-scatter" if scattered else found[2]
            piece = _PIECE.search(line) and _CHANNEL.search(line)
            key = piece or _NAME.match(line)
            # The start of an asynchronous gather returns what it takes and what it will give.
            size = (max if found[3] and found[2] != "all-reduce" else sum)(_sizes(found[1]))
            size *= _group(line) if found[2] == "reduce-scatter" else 1
            channel = f"{key[1] if key else line} {kind} {size}"
            *_, before = channels.get(channel, (kind, size, times if piece else 0))
            channels[channel] = (kind, size, min(before, times) if piece else before + times)
        elif loop := _LOOP.search(line):
            _visit(loop[2], times * _turns(line, bodies.get(loop[1], [])), bodies, channels)
        for callee in _callees(line):
            _visit(callee, times, bodies, channels)


def _callees(line: str) -> Iterator[str]:
    yield from _CALLED.findall(line)
    for names in _BRANCHES.findall(line):
        yield from (name.strip().lstrip("%") for name in names.split(","))


def _turns(line: str, condition: list[str]) -> int:
    """Turns of a loop: the compiler's note, or else the constant that its counter is held to."""
    if known := _TURNS.search(line):
        return int(known[1])
    limits = [
        m[1] for m in (re.search(r"= s32\[\]\S* constant\((\d+)\)", x) for x in condition) if m
    ]
    return int(limits[0]) if len(limits) == 1 else 1


def _sizes(kind: str) -> list[int]:
    """Bytes of every array in the type of an instruction."""
    sizes = [0]
    for name, shape in _ARRAY.findall(kind):
        bits = _BITS.get(name) or (8 if name.startswith("f8") else int(name[1:]))
        sizes.append(math.prod(int(n) for n in shape.split(",") if n) * bits // 8)
    return sizes


def _group(line: str) -> int:
    """Devices that a collective puts together."""
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return len(listed[1].split(","))
    if counted := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(counted[1])
    if named := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", named[2]))
    return 1
