# SPDX-License-Identifier: Apache-2.0
"""New folders that appear only when they are complete, on a disk or in an object store."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unilogit_jax.errors import StorageError, WeightsError
from unilogit_jax.paths import AnyPath, Remote, upload_folder

LAST = ("config.json", "adapter_config.json")
"""What readers look for first is uploaded last."""


def check_empty(folder: AnyPath) -> None:
    """Refuses a folder that holds anything already.

    Raises:
      WeightsError: it does, or is a file.
      OSError: it cannot be looked into.

    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WeightsError(f"{folder} exists and is not empty: choose another folder or remove it.")


@contextmanager
def complete_folder(folder: AnyPath, *, last: tuple[str, ...] = LAST) -> Iterator[Path]:
    """A folder to write into, beside `folder`, which gets that name once all went well.

    For an object store it is a temporary folder of this machine, which is uploaded then.

    Args:
      folder: on a disk one that is missing or empty.
      last: names of files that are uploaded after the others.

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
    if isinstance(folder, Remote):
        try:
            with tempfile.TemporaryDirectory() as room:
                yield Path(room)
                upload_folder(Path(room), folder, last=last)
        except StorageError as error:
            raise WeightsError(str(error)) from None
        except OSError as error:
            raise WeightsError(f"{folder} cannot be written: {error}.") from None
        return
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
