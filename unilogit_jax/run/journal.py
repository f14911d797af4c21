# SPDX-License-Identifier: Apache-2.0
"""Text files that grow line by line: appended to on a disk, written anew in an object store."""

import threading
import time
from contextlib import suppress
from pathlib import Path

from unilogit_jax.errors import StorageError
from unilogit_jax.paths import AnyPath, Remote
from unilogit_jax.run.files import refusals

PAUSE = 2.0
"""Seconds between two uploads; stores limit how often one object is written."""

SHARE = 20
"""An upload that takes long is followed by a pause so many times as long."""


class Journal:
    """A growing text file.

    Objects of a store cannot grow. There the whole text is uploaded in the background a moment
    after it has changed: what is killed loses the last seconds, unless `flush` was called.
    """

    def __init__(self, path: AnyPath):
        """Takes the file; it may exist, and need not."""
        self._path = path
        self._remote = _Upload(path) if isinstance(path, Remote) else None

    def append(self, text: str) -> None:
        """Adds text at the end; on a disk it is there at once.

        Raises:
          StorageError: the disk refuses.

        """
        if self._remote is not None:
            self._remote.append(text)
        elif isinstance(self._path, Path):
            with refusals(self._path):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(text)

    def flush(self) -> None:
        """Returns once everything is written.

        Raises:
          StorageError: it cannot be.

        """
        if self._remote is not None:
            self._remote.flush()


class _Upload:
    def __init__(self, path: Remote):
        self._path = path
        self._text: list[str] | None = None
        self._sent = 0
        self._took = 0.0
        self._timer: threading.Timer | None = None
        self._changing, self._sending = threading.Lock(), threading.Lock()

    def append(self, text: str) -> None:
        with self._changing:
            if self._text is None:
                self._text = self._there()
                self._sent = len(self._text)
            self._text.append(text)
            if self._timer is None:
                self._timer = threading.Timer(max(PAUSE, SHARE * self._took), self._later)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        # One upload at a time: an older text must not replace a newer one.
        with self._sending:
            with self._changing:
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
                parts = list(self._text or ())
            if len(parts) == self._sent:
                return
            began = time.monotonic()
            self._path.write_bytes("".join(parts).encode("utf-8", "backslashreplace"))
            self._sent, self._took = len(parts), time.monotonic() - began

    def _later(self) -> None:
        # Whoever calls `flush` tries again, and is told.
        with suppress(StorageError):
            self.flush()

    def _there(self) -> list[str]:
        try:
            return [self._path.read_text(errors="replace")]
        except FileNotFoundError:
            return []
