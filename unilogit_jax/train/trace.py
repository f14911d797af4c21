# SPDX-License-Identifier: Apache-2.0
"""A profiler trace of a few updates, to be looked at with XProf, TensorBoard or Perfetto."""

from pathlib import Path
from types import TracebackType
from typing import Any

import jax

UPDATES = 3


class Trace:
    """Traces some updates of a loop into a folder; without a folder, nothing. A context manager."""

    def __init__(self, folder: Path | None, *, first: int):
        """Takes the folder, and the number of the first update to trace."""
        self._folder, self._first, self._running = folder, first, False

    def __enter__(self) -> "Trace":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def before(self, update: int) -> None:
        """To be called before an update is started."""
        if self._folder is not None and update == self._first:
            jax.profiler.start_trace(str(self._folder))
            self._running = True

    def after(self, update: int, result: Any) -> None:
        """To be called once an update is started, with something that it computes."""
        if self._running and update >= self._first + UPDATES - 1:
            jax.block_until_ready(result)
            self._stop()

    def _stop(self) -> None:
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
