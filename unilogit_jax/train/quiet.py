# SPDX-License-Identifier: Apache-2.0
"""Keeps Orbax from printing tracebacks of errors that it raises again where it is used."""

import logging
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_failures(library: str = "orbax/checkpoint") -> Iterator[None]:
    """Errors that end a thread inside a library are neither printed nor logged; others are.

    A checkpoint is written in the background. Where that fails, Python and Orbax both print the
    traceback of the thread at once, and Orbax raises the error again at the next save or at the
    end.

    Args:
      library: part of the path of its files.

    Example:
      >>> with quiet_failures("/threading.py"):
      ...     thread = threading.Thread(target=lambda: 1 / 0)
      ...     thread.start()
      ...     thread.join()

    """
    before, logger = threading.excepthook, logging.getLogger("absl")

    def hook(args: threading.ExceptHookArgs) -> None:
        files = [frame.filename for frame in traceback.extract_tb(args.exc_traceback)]
        if not any(library in file for file in files):
            before(args)

    def wanted(record: logging.LogRecord) -> bool:
        return not (record.levelno >= logging.ERROR and library in record.pathname)

    threading.excepthook = hook
    logger.addFilter(wanted)
    try:
        yield
    finally:
        threading.excepthook = before
        logger.removeFilter(wanted)
