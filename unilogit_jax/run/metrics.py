# SPDX-License-Identifier: Apache-2.0
"""The metrics log: one flat JSON object per line, appended as training goes."""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from unilogit_jax.errors import CheckpointError
from unilogit_jax.paths import AnyPath
from unilogit_jax.run.files import write_text
from unilogit_jax.run.journal import Journal


@dataclass(frozen=True)
class MetricsLog:
    """A metrics.jsonl file that is only ever appended to, but for `truncate_after` on resume."""

    path: AnyPath

    def write(self, *, stage: str, step: int, **numbers: Any) -> tuple[str, ...]:
        """Appends one line; behind a URL it is stored within seconds, or by `flush`.

        Args:
          stage: part of the run, such as "finetune" or "unlearn".
          step: steps done in that stage.
          **numbers: whole numbers are kept, all else goes through float(). JSON has no NaN and no
            infinity: they are stored as null, and the line gets a key `non_finite` that names
            them, for example "loss=nan".

        Returns:
          The names of the numbers that were not finite; empty when all is well.

        Example:
          >>> import tempfile
          >>> from pathlib import Path
          >>> with tempfile.TemporaryDirectory() as folder:
          ...     log = MetricsLog(Path(folder) / "metrics.jsonl")
          ...     log.write(stage="unlearn", step=1, loss=float("inf"))
          ...     log.read(log.path)
          ('loss',)
          [{'stage': 'unlearn', 'step': 1, 'loss': None, 'non_finite': 'loss=inf'}]

        """
        row: dict[str, Any] = {"stage": stage, "step": int(step)}
        odd: dict[str, float] = {}
        for name, value in numbers.items():
            number = value if isinstance(value, int) else float(value)
            finite = math.isfinite(number)
            row[name] = number if finite else None
            if not finite:
                odd[name] = number
        if odd:
            row["non_finite"] = " ".join(f"{name}={value}" for name, value in odd.items())
        self._journal.append(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        return tuple(odd)

    def flush(self) -> None:
        """Returns once all lines are stored; on a disk they are at once.

        Raises:
          StorageError: they cannot be.
        """
        self._journal.flush()

    def truncate_after(self, stage: str, step: int) -> int:
        """Drops the lines of a stage that a resumed run will write again.

        A last line that was torn by a crash goes too.

        Args:
          stage: the stage that is resumed.
          step: its last step to keep.

        Returns:
          The number of lines dropped.
        """
        # What a journal took in before would come back with its next line.
        self.flush()
        vars(self).pop("_journal", None)
        if not self.path.is_file():
            return 0
        rows = self.read(self.path)
        kept = [r for r in rows if r.get("stage") != stage or r.get("step", 0) <= step]
        write_text(self.path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in kept))
        return len(rows) - len(kept)

    @cached_property
    def _journal(self) -> Journal:
        return Journal(self.path)

    @staticmethod
    def read(path: AnyPath) -> list[dict[str, Any]]:
        """All lines of a metrics file.

        Args:
          path: the file; a missing one reads as empty, a torn last line is left out.

        Returns:
          One dict per line; values that were not finite are None.

        Raises:
          CheckpointError: a line before the last is damaged.
        """
        if not path.is_file():
            return []
        # Split on the newline alone: other Unicode line ends occur inside strings.
        lines = path.read_text(encoding="utf-8", errors="replace").rstrip("\n").split("\n")
        rows = []
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if _is_row(row):
                rows.append(row)
            elif number < len(lines):
                raise CheckpointError(
                    f"{path} line {number} is damaged: {line[:60]!r}. Delete that line."
                )
        return rows


def _is_row(row: Any) -> bool:
    """Whether something is what `write` writes."""
    return (
        isinstance(row, dict)
        and isinstance(row.get("stage"), str)
        and isinstance(row.get("step"), int)
        and all(
            value is None or isinstance(value, int | float)
            for name, value in row.items()
            if name not in ("stage", "non_finite")
        )
    )
