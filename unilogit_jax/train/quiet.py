# SPDX-License-Identifier: Apache-2.0
"""Keeps Orbax from logging tracebacks of errors that it raises again where it is used."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_failures(library: str = "orbax/checkpoint") -> Iterator[None]:
    """Errors that a library logs through absl are dropped; its warnings and all others are not.

    A checkpoint is written in the background. Where that fails, Orbax logs the traceback at once,
    and raises the error again at the next save or at the end.

    Args:
      library: part of the path of its files.

    Example:
      >>> with quiet_failures("doctest"):
      ...     logging.getLogger("absl").error("said elsewhere")

    """
    logger = logging.getLogger("absl")

    def wanted(record: logging.LogRecord) -> bool:
        return not (record.levelno >= logging.ERROR and library in record.pathname)

    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)
