# SPDX-License-Identifier: Apache-2.0
"""A profiler trace of a few updates, to be looked at with XProf, TensorBoard or Perfetto."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import jax

from unilogit_jax.paths import AnyPath, Remote, upload_folder

UPDATES = 3


class Trace:
    """Traces some updates of a loop into a folder; without a folder, nothing. A context manager."""

    def __init__(self, folder: AnyPath | None, *, first: int):
        """Takes the folder, and the number of the first update to trace."""
        self._folder, self._first = folder, first
        self._running: ExitStack | None = None

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
            self._running = ExitStack()
            place = self._folder
            if isinstance(place, Remote):
                # The profiler writes to disks only.
                room = Path(self._running.enter_context(tempfile.TemporaryDirectory()))
                self._running.callback(upload_folder, room, place)
                place = room
            jax.profiler.start_trace(str(place))
            self._running.callback(jax.profiler.stop_trace)

    def after(self, update: int, result: Any) -> None:
        """To be called once an update is started, with something that it computes."""
        if self._running is not None and update >= self._first + UPDATES - 1:
            jax.block_until_ready(result)
            self._stop()

    def _stop(self) -> None:
        if self._running is not None:
            self._running.close()
            self._running = None
