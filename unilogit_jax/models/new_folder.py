# SPDX-License-Identifier: Apache-2.0
"""New folders that appear only when they are complete and on the disk."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unilogit_jax.errors import WeightsError


def check_empty(folder: Path) -> None:
    """Refuses a folder that holds anything already.

    Raises:
      WeightsError: it does, or is a file.
      OSError: it cannot be looked into.

    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WeightsError(f"{folder} exists and is not empty: choose another folder or remove it.")


@contextmanager
def complete_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to write into, which gets that name once all went well.

    Raises:
      WeightsError: for an OSError inside, with its cause; nothing is left behind.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as room:
      ...     with complete_folder(Path(room) / "model") as part:
      ...         _ = (part / "config.json").write_text("{}")
      ...     print([path.name for path in Path(room).iterdir()])
      ['model']

    """
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        # One that a killed process of the same number left behind.
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        for path in (*part.iterdir(), part):
            _sync(path)
        os.replace(part, folder)
        _sync(folder.parent)
    except OSError as error:
        raise WeightsError(f"{folder} cannot be written: {error}.") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _sync(path: Path) -> None:
    """Waits until a file, or the list of a folder's files, is on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
