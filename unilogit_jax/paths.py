# SPDX-License-Identifier: Apache-2.0
"""Files and folders on a disk, or behind a URL such as gs://bucket/runs, used in the same way."""

import errno
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from unilogit_jax.errors import ConfigError, StorageError, UnilogitError, suggest
from unilogit_jax.urls import file_system, one_line, scheme_of

WRITTEN = ("gs",)
"""Object stores that runs, checkpoints and exports can be written to."""

_ALIASES = {"gcs": "gs"}


class Remote:
    """A file or folder of an object store, with as much of `pathlib.Path` as is used here.

    An object is written whole, so a reader sees the old one or the new one. A folder is there as
    long as something lies in it. What the store refuses is a `StorageError`, which is an OSError.

    Example:
      >>> run = Remote("gs://bucket/runs/") / "mine"
      >>> str(run / "status"), run.name, str(run.parent)
      ('gs://bucket/runs/mine/status', 'mine', 'gs://bucket/runs')

    """

    def __init__(self, url: str):
        self._url = url.rstrip("/")

    def __str__(self) -> str:
        return self._url

    def __repr__(self) -> str:
        return f"Remote({self._url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and str(other) == str(self)

    def __hash__(self) -> int:
        return hash(self._url)

    def __truediv__(self, name: str) -> "Remote":
        return Remote(f"{self._url}/{name}")

    @property
    def parent(self) -> "Remote":
        """The folder around it; a bucket is its own."""
        above = self._url.rpartition("/")[0]
        return self if above.endswith("/") else Remote(above)

    @property
    def name(self) -> str:
        """The last part."""
        return self._url.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The last part without its ending."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The ending, such as ".json"."""
        return PurePosixPath(self.name).suffix

    def absolute(self) -> "Remote":
        """Itself."""
        return self

    def exists(self) -> bool:
        """Whether it is a file or a folder."""
        return self._kind() is not None

    def is_file(self) -> bool:
        """Whether it is an object."""
        return self._kind() == "file"

    def is_dir(self) -> bool:
        """Whether anything lies in it."""
        return self._kind() == "directory"

    def iterdir(self) -> "Iterator[Remote]":
        """What lies in the folder; nothing where there is none."""
        with self._told("listed") as (system, path):
            try:
                found = system.ls(path, detail=False)
            except FileNotFoundError:
                found = []
        names = [place.rstrip("/") for place in found]
        # Some stores mark a folder with an empty object of its own name.
        yield from (self / place.rpartition("/")[2] for place in names if place != path.rstrip("/"))

    def read_bytes(self) -> bytes:
        """The whole content.

        Raises:
          FileNotFoundError: there is no such object.

        """
        with self._told("read") as (system, path):
            return system.cat_file(path)

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The whole content as text."""
        return self.read_bytes().decode(encoding, errors)

    def write_bytes(self, data: bytes) -> None:
        """Writes it whole."""
        with self._written() as (system, path):
            system.pipe_file(path, data)

    def create(self, data: bytes) -> None:
        """Writes it whole where there is nothing yet; of several who try, one succeeds.

        Raises:
          FileExistsError: there is something.

        """
        with self._written() as (system, path):
            try:
                system.pipe_file(path, data, mode="create")
            except FileExistsError:
                raise FileExistsError(errno.EEXIST, "File exists", str(self)) from None

    def upload(self, file: Path) -> None:
        """Copies a file of this machine there."""
        with self._written() as (system, path):
            system.put_file(str(file), path)

    def download(self, file: Path) -> None:
        """Copies it to a file of this machine.

        Raises:
          FileNotFoundError: there is no such object.

        """
        with self._told("read") as (system, path):
            system.get_file(path, str(file))

    @contextmanager
    def marked(self) -> "Iterator[Remote]":
        """Puts an object of a new name into the folder, and takes it away again.

        Raises:
          StorageError: nothing can be written there.

        """
        marker = self / f".shared-{uuid.uuid4().hex}"
        marker.write_bytes(b"")
        try:
            yield marker
        finally:
            with suppress(StorageError):
                marker.unlink(missing_ok=True)

    def unlink(self, missing_ok: bool = False) -> None:
        """Deletes the object."""
        with self._told("deleted") as (system, path):
            try:
                system.rm_file(path)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def _kind(self) -> str | None:
        with self._told("read") as (system, path):
            try:
                return system.info(path)["type"]
            except FileNotFoundError:
                return None

    @contextmanager
    def _written(self) -> Iterator[tuple[Any, str]]:
        with self._told("written") as place:
            try:
                yield place
            except FileNotFoundError:
                bucket = "/".join(self._url.split("/")[:3])
                raise StorageError(
                    f"{self} cannot be written: there is no bucket {bucket}, or you have no access "
                    "to it."
                ) from None

    @contextmanager
    def _told(self, done: str) -> Iterator[tuple[Any, str]]:
        try:
            yield file_system(self._url, use_listings_cache=False)
        except (FileNotFoundError, FileExistsError, UnilogitError):
            raise
        except Exception as error:  # every file system has errors of its own
            raise StorageError(
                f"{self} cannot be {done} ({type(error).__name__}: {one_line(error)}): check the "
                "address, your login and your access to it."
            ) from error


AnyPath = Path | Remote
"""A path on a disk or behind a URL."""


def to_path(place: "str | os.PathLike[str] | Remote") -> AnyPath:
    """The place of something to write: on a disk, or in an object store (`WRITTEN`).

    Raises:
      ConfigError: a URL of another kind, or one that went through `pathlib.Path`.

    Example:
      >>> to_path("runs/mine"), to_path("gs://bucket/runs/mine")
      (PosixPath('runs/mine'), Remote('gs://bucket/runs/mine'))

    """
    path = to_source(place)
    if isinstance(path, Remote) and (kind := scheme_of(str(path))) not in WRITTEN:
        from fsspec.registry import known_implementations

        near = "" if kind in known_implementations else suggest(kind, WRITTEN)
        raise ConfigError(
            f"{path} cannot be used: runs and exports are on a disk or at gs://, not at "
            f"{kind}://.{near}"
        )
    return path


def to_source(place: "str | os.PathLike[str] | Remote") -> AnyPath:
    """The place of something to read: on a disk, or behind a URL of any kind that fsspec knows.

    Raises:
      ConfigError: a URL that went through `pathlib.Path`.

    """
    if isinstance(place, Remote):
        return place
    if isinstance(place, str) and (kind := scheme_of(place)):
        if kind == "file" and "::" not in place:
            return Path(place.removeprefix("file://"))
        return Remote(_ALIASES.get(kind, kind) + place[len(kind) :])
    path = Path(place)
    if re.match(r"[A-Za-z][\w+.-]+:/", str(path)):
        raise ConfigError(f"{path} was a URL before it became a Path: give it as text.")
    return path


def upload_folder(folder: Path, target: Remote, last: tuple[str, ...] = ()) -> None:
    """Copies all files below a folder to an object store.

    Args:
      folder: on this machine.
      target: where they go, under the same names.
      last: names that are copied after the others, so that who sees them sees all.

    Raises:
      StorageError: a file cannot be written; those that were written are deleted again.

    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    done: list[Remote] = []
    try:
        for path in sorted(files, key=lambda path: path.name in last):
            done.append(target / path.relative_to(folder).as_posix())
            done[-1].upload(path)
    except BaseException:
        for place in reversed(done):
            try:
                place.unlink(missing_ok=True)
            except StorageError:
                break
        raise
