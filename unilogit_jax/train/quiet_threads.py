# SPDX-License-Identifier: Apache-2.0
"""Keeps threads of Orbax from printing errors that it raises again where it is used."""

import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_threads(library: str = "orbax/checkpoint") -> Iterator[None]:
    """Errors that end a thread inside a library are not printed; those of other threads are.

    A checkpoint is written in the background. Where that fails, Python prints the traceback of the
    thread at once, and Orbax raises the error again at the next save or at the end.

    Args:
      library: part of the path of its files.

    Example:
      >>> with quiet_threads("/threading.py"):
      ...     thread = threading.Thread(target=lambda: 1 / 0)
      ...     thread.start()
      ...     thread.join()

    """
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        files = [frame.filename for frame in traceback.extract_tb(args.exc_traceback)]
        if not any(library in file for file in files):
            before(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
