# SPDX-License-Identifier: Apache-2.0
"""The files of a folder on this machine, or behind a URL such as gs://..., read in pieces."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from unilogit_jax.errors import StorageError, WeightsError
from unilogit_jax.urls import file_system, one_line


def open_folder(source: Path | str) -> "Folder":
    """The files behind what `resolve` gives; to be used in a with statement."""
    return LocalFolder(source) if isinstance(source, Path) else RemoteFolder(source)


class LocalFolder:
    """A folder on this machine. Its files are read, not mapped: mapped pages count as memory."""

    whole_rows = False

    def __init__(self, path: Path):
        self._path = path
        self._open: dict[str, int] = {}

    def __enter__(self) -> "LocalFolder":
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._open.values():
            os.close(file)
        self._open.clear()

    def __str__(self) -> str:
        return str(self._path)

    def names(self) -> list[str]:
        """The files, as far as they can be listed."""
        return sorted(os.listdir(self._path)) if os.access(self._path, os.R_OK) else []

    def has(self, name: str) -> bool:
        """Whether there is something of this name."""
        try:
            os.stat(self._path / name)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise WeightsError(f"{self}/{name} cannot be read: {error.strerror}.") from None
        return True

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return os.fstat(self._file(name)).st_size

    def read(self, name: str, start: int, out: np.ndarray) -> None:
        """Fills an array of bytes from a file, beginning at `start`."""
        file, view = self._file(name), out.data
        try:
            while view:
                count = os.preadv(file, [view], start)
                if not count:
                    raise WeightsError(f"{self}/{name} became shorter while it was read.")
                view, start = view[count:], start + count
        except OSError as error:
            raise WeightsError(f"{self}/{name} cannot be read: {error.strerror}.") from None

    def _file(self, name: str) -> int:
        if name not in self._open:
            path = self._path / name
            try:
                real = path.resolve(strict=True)
                if not any(real.is_relative_to(root) for root in _roots(self._path)):
                    raise WeightsError(
                        f"{path} is a link to {real}, outside its folder: put the file there."
                    )
                if not stat.S_ISREG(real.stat().st_mode):
                    raise WeightsError(f"{path} is a folder or a device, not a file.")
                self._open[name] = os.open(real, os.O_RDONLY)
            except FileNotFoundError:
                raise WeightsError(f"{path} is missing: the download may be incomplete.") from None
            except (OSError, RuntimeError) as error:
                reason = getattr(error, "strerror", None) or error
                raise WeightsError(f"{path} cannot be read: {reason}.") from None
        return self._open[name]


class RemoteFolder:
    """A folder of an fsspec file system, read in ranges of bytes."""

    whole_rows = True
    """A row in one request is cheaper than its part in many."""

    def __init__(self, url: str):
        self._url = url
        self._system: Any
        try:
            self._system, self._root = file_system(url)
        except StorageError as error:
            raise WeightsError(str(error)) from None

    def __enter__(self) -> "RemoteFolder":
        return self

    def __exit__(self, *error: object) -> None:
        self._system = None

    def __str__(self) -> str:
        return self._url

    def names(self) -> list[str]:
        """The files, as far as they can be listed."""
        try:
            paths = self._system.ls(self._root, detail=False)
        except Exception:  # not every file system can; it serves a message only
            return []
        return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)

    def has(self, name: str) -> bool:
        """Whether there is something of this name."""
        with self._told(name):
            try:
                self._system.info(f"{self._root}/{name}")
            except FileNotFoundError:
                return False
            return True

    def size(self, name: str) -> int:
        """Bytes of a file."""
        with self._told(name):
            facts = self._system.info(f"{self._root}/{name}")
        if facts.get("type") == "directory" or facts.get("size") is None:
            raise WeightsError(f"{self}/{name} is a folder, or of unknown size.")
        return facts["size"]

    def read(self, name: str, start: int, out: np.ndarray) -> None:
        """Fills an array of bytes from a file, beginning at `start`."""
        if not out.size:
            return
        with self._told(name):
            data = self._system.cat_file(f"{self._root}/{name}", start=start, end=start + out.size)
        if len(data) != out.size:
            raise WeightsError(
                f"{self}/{name} gave {len(data)} bytes when asked for {out.size}: it is cut short, "
                "or its server does not answer requests for ranges."
            )
        out[:] = np.frombuffer(data, np.uint8)

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise WeightsError(f"{self}/{name} is missing: the upload may be incomplete.") from None
        except Exception as error:  # every file system has errors of its own
            raise WeightsError(
                f"{self}/{name} cannot be read ({type(error).__name__}: {one_line(error)}): check "
                "the address, and that you have access to it."
            ) from error


Folder = LocalFolder | RemoteFolder
"""Files by name: names(), has(name), size(name), read(name, start, out)."""


def _roots(folder: Path) -> list[Path]:
    """Where links in a folder may lead: into it, or, in the Hub's cache, to the files' contents."""
    real = folder.resolve()
    repository = real.parent.parent
    if real.parent.name == "snapshots" and repository.name.startswith("models--"):
        return [repository, repository.parent / "blobs"]
    return [real]
