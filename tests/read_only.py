# SPDX-License-Identifier: Apache-2.0
"""Makes folders read-only to this process, whoever runs it: root may write anywhere."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FOLDERS: set[str] = set()
_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def _refuse(event: str, words: tuple) -> None:
    if not _FOLDERS or (event != "open" and event not in _CHANGES):
        return
    if event == "open" and not (isinstance(words[2], int) and words[2] & _WRITING):
        return
    for place in words[:2]:
        if isinstance(place, str | Path) and any(
            Path(place).absolute().is_relative_to(folder) for folder in _FOLDERS
        ):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(place))


sys.addaudithook(_refuse)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A block in which nothing in the folder can be written, made, renamed or removed by Python."""
    _FOLDERS.add(str(folder.absolute()))
    try:
        yield
    finally:
        _FOLDERS.remove(str(folder.absolute()))
