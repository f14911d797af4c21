# SPDX-License-Identifier: Apache-2.0
"""How a stack of layers of two kinds is cut into runs that can be scanned."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

LONGEST_PERIOD = 8
"""Layers of one period are compiled one by one; longer patterns are cut at every change instead."""


class Run(NamedTuple):
    """Layers start..stop-1, a whole number of periods; `kinds` says which of them are local."""

    start: int
    stop: int
    kinds: tuple[bool, ...]


def layer_runs(layers: int, local: Sequence[bool], cuts: Sequence[int] = ()) -> list[Run]:
    """Runs that cover all layers in order, each a repetition of one short period.

    Args:
      layers: number of layers.
      local: for each layer whether it is a local one; empty if none is.
      cuts: layers that no run may go beyond: each begins a new one, if it is there.

    Example:
      >>> layer_runs(5, [True, False, True, False, True])
      [Run(start=0, stop=4, kinds=(True, False)), Run(start=4, stop=5, kinds=(True,))]
      >>> layer_runs(4, [False, True, True, True])
      [Run(start=0, stop=1, kinds=(False,)), Run(start=1, stop=4, kinds=(True,))]
      >>> layer_runs(4, [], [3])
      [Run(start=0, stop=3, kinds=(False,)), Run(start=3, stop=4, kinds=(False,))]

    """
    kinds = tuple(local) or (False,) * layers
    bounds = sorted({0, layers, *(cut for cut in cuts if cut < layers)})
    return [
        Run(start + run.start, start + run.stop, run.kinds)
        for start, stop in pairwise(bounds)
        for run in _runs(kinds[start:stop])
    ]


def _runs(kinds: tuple[bool, ...]) -> list[Run]:
    layers = len(kinds)
    for period in range(1, min(LONGEST_PERIOD, layers) + 1):
        if all(kinds[i] == kinds[i % period] for i in range(layers)) and 2 * period <= layers:
            whole = layers - layers % period
            runs = [Run(0, whole, kinds[:period])]
            return runs if whole == layers else [*runs, Run(whole, layers, kinds[whole:])]
    edges = [i for i in range(1, layers) if kinds[i] != kinds[i - 1]]
    bounds = zip([0, *edges], [*edges, layers], strict=True)
    return [Run(start, stop, (kinds[start],)) for start, stop in bounds]
