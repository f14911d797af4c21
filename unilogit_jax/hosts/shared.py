# SPDX-License-Identifier: Apache-2.0
"""Makes sure that a folder is the same folder for every process of a run."""

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from unilogit_jax.errors import CheckpointError
from unilogit_jax.hosts.talk import everywhere, exchange, from_first, several
from unilogit_jax.paths import AnyPath, Remote

WAIT = 5.0
"""Seconds in which a file must become visible on the other hosts; NFS takes its time."""


def check_shared(folder: AnyPath) -> None:
    """Refuses a folder in which the other processes do not see what the first one writes.

    Nothing is left behind: neither the file that is looked for, nor folders made for it.

    Args:
      folder: as this process knows it; made where it is missing. One in an object store is tried
        by a single process too.

    Raises:
      CheckpointError: it is on a disk of one host, or cannot be made; in every process.
      StorageError: the object store refuses it, or is out of reach of a process; in every one.

    """
    if not several() and isinstance(folder, Path):
        return
    with ExitStack() as stack:
        name = from_first(lambda: stack.enter_context(_marker(folder)))
        _, seen = exchange(lambda: _appears(folder / name), str)
        if blind := [str(number) for number, word in enumerate(seen) if word != str(True)]:
            raise everywhere(
                CheckpointError(
                    f"{folder} is not shared: process {', '.join(blind)} of {len(seen)} sees "
                    "nothing of what the first one writes there. A run on several hosts needs a "
                    "folder on a file system that all of them have (NFS, Filestore, Lustre), or at "
                    "gs://: set output.dir or --out to one."
                )
            )


@contextmanager
def _marker(folder: AnyPath) -> Iterator[str]:
    """A file of a name that nobody has looked for before."""
    if isinstance(folder, Remote):
        with folder.marked() as place:
            yield place.name
        return
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    marker = folder / f".shared-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        marker.touch()
        yield marker.name
    except OSError as error:
        raise CheckpointError(
            f"the run folder {folder} cannot be made: {error.strerror}. "
            "Choose another place with output.dir or --out."
        ) from error
    finally:
        with suppress(OSError):
            marker.unlink(missing_ok=True)
            for path in missing:
                path.rmdir()


def _appears(path: AnyPath) -> bool:
    if isinstance(path, Remote):
        return path.is_file()
    end = time.monotonic() + WAIT
    while True:
        # Listing a folder makes NFS look at it anew.
        with suppress(OSError):
            if path.name in {entry.name for entry in path.parent.iterdir()}:
                return True
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
