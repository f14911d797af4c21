# SPDX-License-Identifier: Apache-2.0
"""The run folder: one new folder per run that holds all of it; an existing one is never reused."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from unilogit_jax.errors import CheckpointError, StorageError, suggest
from unilogit_jax.paths import AnyPath, Remote, to_path
from unilogit_jax.run.environment import describe_environment
from unilogit_jax.run.files import read_json, write_json, write_text


@dataclass(frozen=True)
class RunFolder:
    """One run on disk.

    config.yaml   complete configuration          checkpoints/  what --resume reads
    env.json      versions, command line, times   eval/000125/  results at step 125
    status        running, done or failed: why    plots/*.png   report.html
    log.txt       what the console said           summary.json  the final numbers
    metrics.jsonl one object per logged step      tokenizer/    of a model made from scratch
    references/   what the start model says       record.json   cost, devices, digests
    """

    path: AnyPath

    @classmethod
    def create(
        cls,
        parent: AnyPath | str,
        name: str,
        *,
        config_yaml: str,
        exact: AnyPath | str | None = None,
    ) -> "RunFolder":
        """Makes the folder `parent/MMDD-HHMMSS-name`, or exactly the one asked for.

        Args:
          parent: folder of all runs; made where it is missing.
          name: of the run; characters that do not belong in a file name become dashes.
          config_yaml: the complete configuration, stored as config.yaml.
          exact: this very path instead; it must not exist or be empty.

        Returns:
          The new folder, with config.yaml and the status `running`.

        Raises:
          CheckpointError: the folder asked for is in use, or none can be made there.
        """
        try:
            if exact is not None:
                path = _claim_exact(to_path(exact))
                _write_config(path, config_yaml)
            else:
                path = _claim_new(to_path(parent), name, config_yaml)
        except FileExistsError as error:
            raise _in_use(to_path(error.filename)) from None
        except StorageError:
            raise
        except OSError as error:
            raise CheckpointError(
                f"the run folder {exact or parent} cannot be made: {error.strerror}. "
                "Choose another place with output.dir or --out."
            ) from error
        folder = cls(path)
        folder.set_status("running")
        return folder

    @classmethod
    def open(cls, path: AnyPath | str) -> "RunFolder":
        """An existing run.

        Args:
          path: the run's folder.

        Returns:
          The run.

        Raises:
          CheckpointError: there is no run; the message says what was found instead.
        """
        path = to_path(path)
        if (path / "config.yaml").is_file():
            return cls(path)
        if path.is_file():
            raise CheckpointError(f"{path} is a file. Name the run's folder.")
        if not path.is_dir():
            near = suggest(path.name, _runs_in(path.parent))
            raise CheckpointError(f"there is no run folder {path}.{near}")
        message = f"{path} is no run folder: it has no config.yaml."
        if inside := _runs_in(path):
            shown = ", ".join(inside[:5]) + (", ..." if len(inside) > 5 else "")
            raise CheckpointError(f"{message} It holds runs, name one of them: {shown}")
        raise CheckpointError(f"{message} Name a folder that a run wrote (output.dir, --out).")

    @property
    def config(self) -> AnyPath:
        """The complete configuration: config.yaml."""
        return self.path / "config.yaml"

    @property
    def env(self) -> AnyPath:
        """Versions, command line, times: env.json."""
        return self.path / "env.json"

    @property
    def status_file(self) -> AnyPath:
        """One line: running, done, or failed and why."""
        return self.path / "status"

    @property
    def log(self) -> AnyPath:
        """Everything the console said: log.txt."""
        return self.path / "log.txt"

    @property
    def metrics(self) -> AnyPath:
        """One object per logged step: metrics.jsonl."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> AnyPath:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def references(self) -> AnyPath:
        """Folder of what the start model says of the rows."""
        return self.path / "references"

    @property
    def eval(self) -> AnyPath:
        """Folder of evaluation results, one folder per step."""
        return self.path / "eval"

    @property
    def summary(self) -> AnyPath:
        """The final numbers: summary.json."""
        return self.path / "summary.json"

    @property
    def plots(self) -> AnyPath:
        """Folder of pictures."""
        return self.path / "plots"

    @property
    def report(self) -> AnyPath:
        """The report for people: report.html."""
        return self.path / "report.html"

    @property
    def profile(self) -> AnyPath:
        """Folder of profiler traces, one folder per stage."""
        return self.path / "profile"

    @property
    def tokenizer(self) -> AnyPath:
        """Folder of the tokenizer, for models made from scratch."""
        return self.path / "tokenizer"

    @property
    def status(self) -> str:
        """The status line; `unknown` where the file is missing."""
        try:
            return self.status_file.read_text(encoding="utf-8", errors="replace").strip()
        except (FileNotFoundError, IsADirectoryError):
            return "unknown"

    def eval_at(self, step: int) -> AnyPath:
        """Folder of the results of one step, for example eval/000125."""
        return self.eval / f"{step:06d}"

    def set_status(self, status: str) -> None:
        """Sets the status line atomically; the end of a run is noted in env.json too.

        Args:
          status: `running`, `done` or `failed: why`; line breaks become spaces.

        Raises:
          ValueError: any other status.
        """
        line = " ".join(status.split())
        if line not in ("running", "done") and not line.startswith("failed:"):
            raise ValueError(f"status is 'running', 'done' or 'failed: why', not {status!r}")
        write_text(self.status_file, line + "\n")
        if line != "running" and self.env.is_file():
            write_json(self.env, self._known() | {"ended": _now()})

    def write_env(self, extra: Mapping[str, Any] | None = None) -> None:
        """Writes env.json: command line, versions, platform, git commit, times.

        A second call, on resume, keeps the first start and adds its own time under `resumed`.

        Args:
          extra: more entries, such as devices and seed.
        """
        before = self._known() if self.env.is_file() else {}
        resumed = [*before.get("resumed", []), _now()] if before else []
        times = {"started": before.get("started") or _now(), "resumed": resumed, "ended": None}
        write_json(self.env, describe_environment() | times | dict(extra or {}))

    def _known(self) -> dict[str, Any]:
        """What env.json holds."""
        from unilogit_jax.run.shapes import Env

        return read_json(self.env, Env)


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _claim_new(parent: AnyPath, name: str, config_yaml: str) -> AnyPath:
    """A folder that did not exist; runs started in the same second get a number."""
    if isinstance(parent, Path):
        parent.mkdir(parents=True, exist_ok=True)
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:100] or "run"
    stem = f"{datetime.now():%m%d-%H%M%S}-{slug}"
    for number in count(1):
        path = parent / (stem if number == 1 else f"{stem}-{number}")
        try:
            if isinstance(path, Path):
                path.mkdir()
            elif path.is_dir():
                continue
            _write_config(path, config_yaml)
        except FileExistsError:
            continue
        return path
    raise AssertionError("unreachable")


def _claim_exact(path: AnyPath) -> AnyPath:
    if isinstance(path, Path):
        path.mkdir(parents=True, exist_ok=True)
    if path.is_file() or any(path.iterdir()):
        raise _in_use(path)
    return path


def _write_config(path: AnyPath, config_yaml: str) -> None:
    """Of several runs that are started at once in one folder, one succeeds."""
    if isinstance(path, Remote):
        (path / "config.yaml").create(config_yaml.encode())
        return
    with (path / "config.yaml").open("x", encoding="utf-8") as file:
        file.write(config_yaml)


def _in_use(path: AnyPath) -> CheckpointError:
    if path.name == "config.yaml":
        path = path.parent
    if not path.is_dir():
        return CheckpointError(f"{path} is a file. Choose another output.dir or --out.")
    resume = f", or continue that run with --resume {path}" * (path / "config.yaml").is_file()
    return CheckpointError(
        f"the run folder {path} exists and is not empty; nothing was overwritten. "
        f"Choose another output.dir or --out{resume}."
    )


def _runs_in(folder: AnyPath) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(sub.name for sub in folder.iterdir() if (sub / "config.yaml").is_file())
