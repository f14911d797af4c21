# SPDX-License-Identifier: Apache-2.0
"""Batches of examples: one to a row, or several."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from unilogit_jax.data.encode import Rows
from unilogit_jax.data.packing import Packing, pack
from unilogit_jax.types import IGNORE, Batch

Part = tuple[Rows, np.ndarray, dict[str, np.ndarray]]
"""Rows, which of them, and what else is known of each position of all."""


def assemble(
    parts: Sequence[Part],
    sets: Int[np.ndarray, " B"],
    partners: Int[np.ndarray, " B"] | None = None,
) -> Batch:
    """A batch with one example per row.

    Args:
      parts: the examples, part by part; a reference that a part lacks is 0 there.
      sets: the set of each example.
      partners: the number of the example that answers its question otherwise, 0 for none.

    """
    length = max(rows.length for rows, _, _ in parts)
    tokens, labels, lengths, references = _gather(parts, length)
    unseen = _unseen(parts, tokens)
    count = len(tokens)
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), (count, length))
    real = positions < lengths[:, None]
    arrays: dict[str, Any] = {
        "tokens": tokens,
        "labels": labels,
        "segments": np.where(real, np.arange(1, count + 1, dtype=np.int32)[:, None], 0),
        "positions": np.ascontiguousarray(positions),
        "sets": np.where(real, sets[:, None], 0),
        "weights": (labels != IGNORE).astype(np.float32),
    }
    if partners is not None:
        arrays["partners"] = np.where(real, partners[:, None], 0)
    if unseen is not None:
        arrays["unseen"] = real & unseen
    return Batch(**arrays, **references, num_segments=count + 1)


def assemble_packed(
    parts: Sequence[Part],
    sets: Int[np.ndarray, " B"],
    packing: Packing,
    partners: Int[np.ndarray, " B"] | None = None,
) -> Batch:
    """A batch with several examples per row, each with positions from 0 on.

    Args:
      parts: as in `assemble`.
      sets: the set of each example.
      packing: the shape of the batch.
      partners: as in `assemble`.

    """
    tokens, labels, lengths, references = _gather(parts, max(r.length for r, _, _ in parts))
    unseen = _unseen(parts, tokens)
    places, rows = pack(lengths, packing.length)
    assert rows <= packing.rows, "the plan was made for other updates"
    shape = (packing.rows, packing.length)
    columns = np.arange(tokens.shape[1], dtype=np.int32)[None, :]
    real = columns < lengths[:, None]
    to = (np.broadcast_to(places.rows[:, None], real.shape)[real],)
    to += ((places.starts[:, None] + columns)[real],)

    def put(values: np.ndarray, fill: int) -> np.ndarray:
        packed = np.full((*shape, *values.shape[2:]), fill, values.dtype)
        packed[to] = values[real]
        return packed

    count = len(tokens)
    numbers = np.arange(1, count + 1, dtype=np.int32)[:, None]
    labels = put(labels, IGNORE)
    arrays: dict[str, Any] = {
        "tokens": put(tokens, 0),
        "labels": labels,
        "segments": put(np.broadcast_to(numbers, real.shape), 0),
        "positions": put(np.broadcast_to(columns, real.shape), 0),
        "sets": put(np.broadcast_to(sets[:, None], real.shape), 0),
        "weights": (labels != IGNORE).astype(np.float32),
    }
    if partners is not None:
        arrays["partners"] = put(np.broadcast_to(partners[:, None], real.shape), 0)
    if unseen is not None:
        arrays["unseen"] = put(unseen, 0)
    packed: dict[str, Any] = {name: put(x, 0) for name, x in references.items()}
    return Batch(**arrays, **packed, num_segments=count + 1)


def _gather(
    parts: Sequence[Part], length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    """Tokens, labels, lengths and references of the examples, padded to one length."""
    tokens = np.concatenate([_widen(rows.tokens[at], length, 0) for rows, at, _ in parts])
    labels = np.concatenate([_widen(rows.labels[at], length, IGNORE) for rows, at, _ in parts])
    lengths = np.concatenate([rows.lengths[at] for rows, at, _ in parts])
    found: dict[str, Any] = {}
    for name, like in {k: v for _, _, given in parts for k, v in given.items()}.items():

        def of(part: Part, name: str = name, like: np.ndarray = like) -> np.ndarray:
            _, at, given = part
            empty = np.zeros((len(at), length, *like.shape[2:]), like.dtype)
            return _widen(given[name][at], length, 0) if name in given else empty

        found[name] = np.concatenate([of(part) for part in parts])
    return tokens, labels, lengths, found


def _unseen(parts: Sequence[Part], tokens: np.ndarray) -> np.ndarray | None:
    """Where the gathered examples hold a token that is not to be seen; None: they have none."""
    marks = [np.full(len(at), -1 if (x := rows.unseen) is None else x) for rows, at, _ in parts]
    each = np.concatenate(marks)[:, None]
    return None if (each < 0).all() else tokens == each


def _widen(values: np.ndarray, length: int, fill: int) -> np.ndarray:
    """Pads the second axis to `length`."""
    missing = length - values.shape[1]
    pad = [(0, 0), (0, missing), *([(0, 0)] * (values.ndim - 2))]
    return np.pad(values, pad, constant_values=fill) if missing else values
