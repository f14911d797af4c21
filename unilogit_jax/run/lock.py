# SPDX-License-Identifier: Apache-2.0
"""One process at a time in a run folder."""

from collections.abc import Callable
from pathlib import Path

from unilogit_jax.errors import CheckpointError
from unilogit_jax.run.folder import RunFolder


def take(run: RunFolder) -> Callable[[], None]:
    """Holds a run folder for this process, until it lets go or ends, however it ends.

    What holds it is a lock of the operating system on config.yaml, which leaves no file behind. In
    an object store, and on disks without such locks, nothing is held.

    Args:
      run: the folder.

    Returns:
      Lets go.

    Raises:
      CheckpointError: another process is at work in it.

    """
    path = run.config
    if not isinstance(path, Path):
        return lambda: None
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock

        file = path.open("r+b")  # network disks want it writable
    except (ImportError, OSError):
        return lambda: None
    try:
        flock(file, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        file.close()
        raise CheckpointError(
            f"another process is at work in {run.path}. Wait until it is done, or end it; then go "
            f"on with --resume {run.path}"
        ) from None
    except OSError:  # a disk without locks
        pass
    return file.close
