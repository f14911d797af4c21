# SPDX-License-Identifier: Apache-2.0
"""Several examples in one row: which fit together, and how long rows have to be."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True)
class Packing:
    """The one shape that holds the examples of every update of a stage."""

    rows: int
    length: int
    efficiency: float
    """Share of positions that hold a token, over all updates."""

    def __str__(self) -> str:
        full = f"{100 * self.efficiency:.1f} % of the positions hold a token"
        return f"packed into {self.rows} x {self.length} tokens per update: {full}"


class Places:
    """Where the examples of one update lie: row and first position of each."""

    def __init__(self, rows: Int[np.ndarray, " B"], starts: Int[np.ndarray, " B"]):
        self.rows, self.starts = rows, starts


def pack(lengths: Int[np.ndarray, " B"], length: int) -> tuple[Places, int]:
    """Puts examples into rows, longest first, each into the first row with room.

    Args:
      lengths: tokens of each example.
      length: positions of a row; no example is longer.

    Returns:
      Where each lies, and the number of rows.

    Example:
      >>> places, rows = pack(np.array([3, 6, 4, 2]), 8)
      >>> rows, places.rows.tolist(), places.starts.tolist()
      (2, [1, 0, 1, 0], [4, 0, 0, 6])

    """
    free: list[int] = []
    rows, starts = (np.zeros(len(lengths), np.int32) for _ in range(2))
    for i in np.argsort(-lengths, kind="stable"):
        need = int(lengths[i])
        row = next((r for r, room in enumerate(free) if room >= need), len(free))
        if row == len(free):
            free.append(length)
        rows[i], starts[i] = row, length - free[row]
        free[row] -= need
    return Places(rows, starts), len(free)


def plan_packing(
    updates: Sequence[Int[np.ndarray, " B"]], *, length: int, multiple: int = 1
) -> Packing:
    """The smallest shape for all updates, with rows of about the given length.

    Args:
      updates: lengths of the examples of each update.
      length: wanted positions per row; raised to the longest example's.
      multiple: what the number of rows has to be a multiple of: devices that share them, times
        microbatches.

    Example:
      >>> plan_packing([np.array([3, 6, 4, 2]), np.array([5, 5, 3, 3])], length=8)
      Packing(rows=2, length=8, efficiency=0.96875)

    """
    longest = max(int(u.max()) for u in updates)
    fullest = max(int(u.sum()) for u in updates)
    wanted = _up(max(length, longest), 8)
    rows = _up(-(-fullest // wanted), multiple)
    # The shortest length that will do for this number of rows: bisected with the fullest updates,
    # then stepped upwards with all, for first-fit packing is not quite monotonous.
    fullest_first = sorted(updates, key=lambda u: -int(u.sum()))
    low, high = max(longest, -(-fullest // rows)), _up(fullest, 8)
    while low < high:
        middle = (low + high) // 2
        fits = _fit(fullest_first[:100], rows, middle)
        low, high = (low, middle) if fits else (middle + 1, high)
    length = _up(low, 8)
    while not _fit(fullest_first, rows, length):
        length += 8
    real = sum(int(u.sum()) for u in updates)
    return Packing(rows, length, real / (len(updates) * rows * length))


def balanced_order(
    lengths: Int[np.ndarray, " N"], window: int, rng: np.random.Generator
) -> Int[np.ndarray, " N"]:
    """A random order in which any `window` neighbours have much the same number of tokens in all.

    The rows are sorted by length and cut into `window` strata; neighbours come one from each. Every
    row is equally likely at every place.

    Example:
      >>> order = balanced_order(np.array([1, 1, 1, 9, 9, 9]), 2, np.random.default_rng(0))
      >>> [sum([1, 1, 1, 9, 9, 9][i] for i in order[k : k + 2]) for k in range(5)]
      [10, 10, 10, 10, 10]

    """
    window = min(window, len(lengths))
    # Ties are broken by chance, or equal rows would meet the same partners in every pass.
    ranked = rng.permutation(len(lengths))
    ranked = ranked[np.argsort(lengths[ranked], kind="stable")]
    strata = [rng.permutation(part) for part in np.array_split(ranked, window)]
    # The longer strata first: only the last neighbours lack one of each.
    strata = [strata[k] for k in rng.permutation(window)]
    strata.sort(key=len, reverse=True)
    deals = np.full((len(strata[0]), window), -1, np.int32)
    for column, part in enumerate(strata):
        deals[: len(part), column] = part
    return deals[deals >= 0]


def _fit(updates: Iterable[Int[np.ndarray, " B"]], rows: int, length: int) -> bool:
    return all(pack(u, length)[1] <= rows for u in updates)


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
