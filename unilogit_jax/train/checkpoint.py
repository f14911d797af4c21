# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a stage: Orbax underneath, a fingerprint on top that notices damaged files."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from unilogit_jax.errors import CheckpointError
from unilogit_jax.paths import AnyPath, Remote, to_path
from unilogit_jax.train.event_loops import patient_event_loops
from unilogit_jax.train.fingerprint import marks_of
from unilogit_jax.train.preemption import hold_interrupt
from unilogit_jax.train.quiet import quiet_failures


class Checkpoints:
    """The numbered checkpoints of one stage. Use as a context manager: leaving it waits for writes.

    Each holds named trees of arrays and a few facts (such as the stage's number of steps).
    """

    def __init__(
        self,
        folder: str | AnyPath,
        *,
        keep: int = 1,
        before_save: Callable[[], None] | None = None,
    ):
        """Opens or makes the folder.

        Args:
          folder: on a disk that all processes share, or behind gs://.
          keep: checkpoints that are kept.
          before_save: called before each save, to store what belongs to it.

        Raises:
          CheckpointError: it cannot be opened.

        """
        import orbax.checkpoint as ocp

        self._ocp = ocp
        self._quiet = ExitStack()
        self.folder = to_path(folder).absolute()
        self._before_save = before_save
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=True, single_host_load_and_broadcast=True
        )
        with self._told("open"):
            self._manager = ocp.CheckpointManager(_known_to_orbax(self.folder), options=options)
        # The loop asks JAX whether to stop, with numbers that go on from stage to stage; Orbax
        # would ask with its own in between.
        self._manager.reached_preemption = lambda step: False

    def __enter__(self) -> "Checkpoints":
        self._quiet.enter_context(quiet_failures())
        if isinstance(self.folder, Remote):
            # Writing to a store can fail as reading can, with other writes under way.
            self._quiet.enter_context(patient_event_loops())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            with hold_interrupt():
                self.wait()
                with self._told("write"):
                    self._manager.close()
        except CheckpointError:
            # What ended the block says more than what became of its last checkpoint.
            if error is None:
                raise
        finally:
            self._quiet.__exit__(kind, error, trace)

    def wait(self) -> None:
        """Returns once everything is written.

        Raises:
          CheckpointError: it could not be.

        """
        with self._told("write"):
            self._manager.wait_until_finished()

    def latest(self) -> int | None:
        """Number of the newest complete checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, step: int, trees: dict[str, Any], facts: dict[str, Any]) -> None:
        """Writes named trees in the background; the folder appears only when it is complete.

        Raises:
          CheckpointError: this step, or a later one, is already there; or this one, or the one
            before, could not be written.

        """
        ocp = self._ocp
        items: dict[str, Any] = {n: ocp.args.StandardSave(tree) for n, tree in trees.items()}
        marks = {name: marks_of(tree) for name, tree in trees.items()}
        if self._before_save is not None:
            self._before_save()
        items["facts"] = ocp.args.JsonSave({**facts, "step": step, "fingerprints": marks})
        # Cut off in between, threads of Orbax would go on with what is no longer there.
        with self._told("write"), hold_interrupt():
            written = self._manager.save(step, args=ocp.args.Composite(**items))
        if not written:
            raise CheckpointError(
                f"checkpoint {step} was not written to {self.folder}: it holds step "
                f"{self.latest()} already. Resume the run, or choose another folder."
            )

    def facts(self) -> dict[str, Any]:
        """What the newest checkpoint says of itself; its arrays are not read.

        Raises:
          CheckpointError: there is none, or it is damaged.

        """
        return self.restore({})[1]

    def discard_from(self, step: int) -> None:
        """Deletes this step and all later ones."""
        for found in self._manager.all_steps():
            if found >= step:
                self._manager.delete(found)

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except CheckpointError:
            raise
        except Exception as error:  # of the disk, in the words of several libraries
            kept = steps_in(self.folder)
            left = f" Checkpoint {max(kept)} is intact." if kept else ""
            raise CheckpointError(
                f"cannot {what} checkpoints in {self.folder}: {_disk_reason(error)}.{left} Mend "
                "that, then go on with --resume."
            ) from error

    def restore(
        self, targets: dict[str, Any], step: int | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Reads named trees into the shapes, dtypes and shardings of `targets` and verifies them.

        Args:
          targets: trees of arrays, or of `jax.ShapeDtypeStruct`s with shardings, by name; trees
            that are not named are not read.
          step: which one; None means the newest.

        Returns:
          The trees by name, and the facts.

        Raises:
          CheckpointError: there is none, its files are damaged, or its arrays have other shapes.

        """
        step = self.latest() if step is None else step
        if step is None:
            raise CheckpointError(
                f"no checkpoint in {self.folder}: the stage had not saved one yet."
            )
        ocp = self._ocp
        where = self.folder / str(step)
        items = {name: ocp.args.StandardRestore(tree) for name, tree in targets.items()}
        try:
            with patient_event_loops():
                read = self._manager.restore(
                    step, args=ocp.args.Composite(facts=ocp.args.JsonRestore(), **items)
                )
        except Exception as error:
            raise CheckpointError(
                f"checkpoint {where} cannot be read, its files are damaged or of another model. "
                f"Delete that folder to fall back on an earlier one. ({_reason(error)})"
            ) from error
        for name in targets:
            if marks_of(read[name]) != read["facts"]["fingerprints"].get(name):
                raise CheckpointError(
                    f"checkpoint {where} is damaged: its {name} are not those that were saved. "
                    "Delete that folder to fall back on an earlier one."
                )
        return {name: read[name] for name in targets}, read["facts"]


def steps_in(folder: AnyPath) -> list[int]:
    """The complete checkpoints in a folder, as far as it can be read; Orbax is not asked."""
    try:
        found = [path for path in folder.iterdir() if path.name.isdigit()]
        # On a disk the folder's name makes it complete; objects cannot be renamed together.
        return sorted(
            int(path.name)
            for path in found
            if isinstance(path, Path) or (path / "commit_success.txt").is_file()
        )
    except OSError:
        return []


def _known_to_orbax(folder: AnyPath) -> Any:
    if isinstance(folder, Path):
        return folder
    from etils import epath

    return epath.Path(str(folder))


def _disk_reason(error: BaseException) -> str:
    """What the operating system said, where it was the one to speak."""
    code = re.search(r"os_error_code='?(\d+)", str(error))
    if code or isinstance(error, OSError):
        number = int(code[1]) if code else getattr(error, "errno", None)
        return os.strerror(number) if number else _reason(error)
    return _reason(error)


def _reason(error: BaseException) -> str:
    """What went wrong first: the innermost cause, without the listing of storage settings."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:200]
