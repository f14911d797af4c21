# SPDX-License-Identifier: Apache-2.0
"""The console of a process: the first one of a run prints, the others only warn."""

import os
import sys

from unilogit_jax.hosts import process_number
from unilogit_jax.run.console import Console


def make_console() -> Console:
    """A console for this process.

    Returns:
      One that prints to standard output; in all processes but the first of a run on several hosts,
      one that lets warnings through, to standard error and with the number of the process.

    """
    number = process_number()
    # A command that is to be quiet sends what it prints nowhere, and there warnings go too.
    quiet = getattr(sys.stdout, "name", None) == os.devnull
    return Console(stream=_Warnings(number)) if number and not quiet else Console(quiet=quiet)


class _Warnings:
    """Takes what a console prints and passes warnings on."""

    def __init__(self, process: int):
        self._process = process

    def write(self, text: str) -> None:
        if text.startswith("warning: "):
            sys.stderr.write(f"process {self._process}: {text}")

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return False
