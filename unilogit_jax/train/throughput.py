# SPDX-License-Identifier: Apache-2.0
"""How fast a stage goes: real tokens per second, and the share of the devices' peak it uses."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from unilogit_jax.types import IGNORE, Batch

FlopsOf = Callable[[Sequence[int], int], float]
"""(tokens of each example, supervised tokens) -> operations of an update."""


def work_of(batch: Batch) -> tuple[list[int], int]:
    """Tokens of each example of a host batch, and its supervised tokens."""
    lengths = np.bincount(np.asarray(batch.segments).ravel())[1:]
    return lengths[lengths > 0].tolist(), int((np.asarray(batch.labels) != IGNORE).sum())


class Throughput:
    """Counts what updates work on, and the time they take; what is done in between does not count.

    Example:
      >>> times = iter([0.0, 10.0, 12.0, 20.0, 22.0])
      >>> speed = Throughput(clock=lambda: next(times))
      >>> speed.tokens = 40
      >>> with speed.aside():
      ...     pass  # a checkpoint, from second 10 to 12
      >>> speed.read()
      {'tokens_per_second': 2.2222222222222223}

    """

    def __init__(
        self,
        flops_of: FlopsOf | None = None,
        peak: float | None = None,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ):
        """Starts counting.

        Args:
          flops_of: operations of an update, for the utilisation.
          peak: operations per second of all devices together; None: not known.
          clock: seconds.
        """
        self._flops_of, self._peak, self._clock = flops_of, peak, clock
        self.restart()

    def restart(self) -> None:
        """Forgets what was counted, such as updates that waited for a compiler."""
        self.tokens, self._flops, self._aside = 0, 0.0, 0.0
        self._since = self._clock()

    def add(self, batch: Batch) -> None:
        """Counts the work of one update."""
        lengths, supervised = work_of(batch)
        self.tokens += sum(lengths)
        if self._flops_of is not None and self._peak:
            self._flops += self._flops_of(lengths, supervised)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Its time does not count: writing a checkpoint, evaluating."""
        began = self._clock()
        try:
            yield
        finally:
            self._aside += self._clock() - began

    def read(self) -> dict[str, float]:
        """Tokens per second and utilisation since the last reading, all devices together."""
        seconds = self._clock() - self._since - self._aside
        found = {"tokens_per_second": self.tokens / max(seconds, 1e-9)}
        if self._peak and self._flops:
            found["mfu"] = self._flops / max(seconds, 1e-9) / self._peak
        self.restart()
        return found
