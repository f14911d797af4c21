# SPDX-License-Identifier: Apache-2.0
"""Trackers: the numbers of metrics.jsonl, and the summary, on other people's screens too."""

import math
import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from unilogit_jax.errors import ConfigError
from unilogit_jax.paths import AnyPath, Remote
from unilogit_jax.run.files import read_json, write_json
from unilogit_jax.run.metrics import MetricsLog

PROJECT = "unilogit_jax"
"""What runs are grouped under; WANDB_PROJECT wins for Weights & Biases."""
IDENTITY = "trackers.json"
"""In the run folder: what trackers know the run by, so that a resumed one goes on there."""


class Tracker(Protocol):
    """Shows the numbers of one run. Whatever it raises ends it, and not the run."""

    def log(self, stage: str, step: int, numbers: Mapping[str, float]) -> None:
        """Takes finite numbers of a stage after so many updates."""
        ...

    def finish(self, summary: Mapping[str, float], *, done: bool) -> None:
        """Takes the numbers that the run ended with, if it is done, and lets go."""
        ...


@dataclass(frozen=True)
class Start:
    """What a tracker is told of a run."""

    folder: AnyPath
    identity: str
    config: Mapping[str, Any]


def check_trackers(names: Iterable[str], place: AnyPath) -> None:
    """Refuses trackers that cannot work here, before anything is computed.

    Raises:
      ConfigError: a package is missing, or a tracker cannot write where runs go.

    """
    for name in names:
        if find_spec(name) is None:
            raise ConfigError(
                f"output.trackers names {name}, which is not installed: pip install "
                f"{name}, or leave it out."
            )
        if name == "tensorboard" and isinstance(place, Remote):
            raise ConfigError(
                f"output.trackers: tensorboard writes to disks only, and the run goes to {place}. "
                "Choose wandb, or a folder on a disk."
            )


class Trackers:
    """The trackers of a run; none before `start`. One that fails is left out from then on."""

    def __init__(self) -> None:
        self._open: dict[str, Tracker] = {}
        self._known: dict[tuple[str, str], int] = {}
        self._warn: Callable[[str], None] = lambda text: None

    def start(
        self,
        names: Iterable[str],
        folder: AnyPath,
        config: Mapping[str, Any],
        *,
        warn: Callable[[str], None],
    ) -> None:
        """Begins to track a run, or goes on; for the first process only.

        Args:
          names: of `TRACKERS`.
          folder: of the run. What its metrics.jsonl holds is known to the trackers, and not told
            again where a resumed run comes by once more.
          config: the run's configuration.
          warn: told of a tracker that fails.

        """
        self._warn = warn
        if not (names := dict.fromkeys(names)):
            return
        for row in MetricsLog.read(folder / "metrics.jsonl"):
            for number in row.keys() - {"stage", "step"}:
                key = row["stage"], number
                self._known[key] = max(row["step"], self._known.get(key, 0))
        start = Start(folder, _identity(folder), config)
        for name in names:
            self._try(name, lambda name=name: self._open.update({name: TRACKERS[name](start)}))

    def log(self, *, stage: str, step: int, **numbers: Any) -> None:
        """Takes what a line of metrics.jsonl takes."""
        if not self._open:
            return
        new = {
            name: float(value)
            for name, value in numbers.items()
            if step > self._known.get((stage, name), 0) and math.isfinite(value)
        }
        for name, tracker in tuple(self._open.items()) if new else ():
            self._try(name, lambda tracker=tracker: tracker.log(stage, step, new))

    def finish(self, summary: Mapping[str, Any], *, done: bool) -> None:
        """Ends all of them.

        Args:
          summary: what summary.json holds; of it finite numbers are told.
          done: whether the run came to its end.

        """
        numbers = {
            name: float(value)
            for name, value in summary.items()
            if isinstance(value, int | float) and math.isfinite(value)
        }
        for name, tracker in tuple(self._open.items()):
            self._try(name, lambda tracker=tracker: tracker.finish(numbers, done=done))
        self._open.clear()

    def _try(self, name: str, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:  # of somebody else's program, server or login
            self._open.pop(name, None)
            reason = " ".join(str(error).split()) or type(error).__name__
            self._warn(
                f"output.trackers: {name} failed and is left out from now on ({reason[:200]}). "
                "The run goes on; all its numbers are in metrics.jsonl."
            )


class _TensorBoard:
    """Event files in RUN/tensorboard, without TensorFlow."""

    def __init__(self, start: Start):
        writers = import_module("tensorboard.summary.writer.event_file_writer")
        self._event = import_module("tensorboard.compat.proto.event_pb2").Event
        self._writer = writers.EventFileWriter(str(start.folder / "tensorboard"))

    def log(self, stage: str, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            event = self._event(wall_time=time.time(), step=step)
            event.summary.value.add(tag=f"{stage}/{name}", simple_value=value)
            self._writer.add_event(event)
        # What is killed must not lack points that a resumed run takes for known.
        self._writer.flush()

    def finish(self, summary: Mapping[str, float], *, done: bool) -> None:
        if summary:
            self.log("summary", 0, summary)
        self._writer.close()


class _Wandb:
    """A run of Weights & Biases; its own variables say who logs in and whether offline."""

    def __init__(self, start: Start):
        wandb = import_module("wandb")
        disk = start.folder if isinstance(start.folder, Path) else None
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=start.folder.name,
            id=start.identity,
            resume="allow",
            config=dict(start.config),
            dir=os.environ.get("WANDB_DIR", disk),
            # What is printed quotes answers, some of them to be forgotten: it stays here.
            settings=wandb.Settings(console="off", save_code=False),
        )
        self._stages: set[str] = set()

    def log(self, stage: str, step: int, numbers: Mapping[str, float]) -> None:
        if stage not in self._stages:
            self._stages.add(stage)
            self._run.define_metric(f"{stage}/step", hidden=True)
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
        named = {f"{stage}/{name}": value for name, value in numbers.items()}
        self._run.log({f"{stage}/step": step, **named})

    def finish(self, summary: Mapping[str, float], *, done: bool) -> None:
        self._run.summary.update(dict(summary))
        self._run.finish(exit_code=0 if done else 1)


class _Trackio:
    """A run of Trackio, on this machine or where its own variables say."""

    def __init__(self, start: Start):
        self._trackio = import_module("trackio")
        self._run = self._trackio.init(
            project=PROJECT,
            name=f"{start.folder.name}-{start.identity}",
            resume="allow",
            config=dict(start.config),
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def log(self, stage: str, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log({f"{stage}/{name}": value for name, value in numbers.items()}, step=step)

    def finish(self, summary: Mapping[str, float], *, done: bool) -> None:
        if summary:
            self.log("summary", 0, summary)
        # The run's own finish would be said again, on standard output, when the process ends.
        self._trackio.finish()


TRACKERS: dict[str, Callable[[Start], Tracker]] = {
    "tensorboard": _TensorBoard,
    "wandb": _Wandb,
    "trackio": _Trackio,
}
"""Name in `output.trackers`, of the extra and of the package -> tracker."""


def _identity(folder: AnyPath) -> str:
    """What the trackers know a run by; drawn once."""
    from unilogit_jax.run.shapes import Identity

    file = folder / IDENTITY
    if not file.is_file():
        write_json(file, {"id": secrets.token_hex(4)})
    return read_json(file, Identity)["id"]
