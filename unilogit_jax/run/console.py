# SPDX-License-Identifier: Apache-2.0
"""What a person sees while a run goes: lines, stages with progress, tables; all logged too."""

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from unilogit_jax.errors import clean
from unilogit_jax.paths import AnyPath
from unilogit_jax.run.journal import Journal
from unilogit_jax.run.stage import Stage
from unilogit_jax.run.text import (
    format_seconds,
    plain_table,
    right_aligned,
)


@runtime_checkable
class Stream(Protocol):
    """What a console prints to: sys.stdout, an open text file, an io.StringIO."""

    def write(self, text: str, /) -> Any:
        """Takes a text."""
        ...

    def flush(self) -> Any:
        """Shows what was taken."""
        ...

    def isatty(self) -> bool:
        """Whether a person looks on."""
        ...


class Console:
    """Prints to one stream and to a log file.

    On a terminal there are progress bars and tables drawn with lines; elsewhere (a file, a pipe, a
    cluster's log) plain lines, of each stage one every few seconds at most. `quiet` prints nothing,
    the log is written all the same: it is for all processes of a pod but the first, and for tests.
    """

    def __init__(
        self, log_file: AnyPath | None = None, *, quiet: bool = False, stream: Stream | None = None
    ) -> None:
        self.stage_times: dict[str, float] = {}
        """Seconds per stage; a stage inside another counts for itself only, so they add up."""
        self.warnings: list[str] = []
        self._log = None if log_file is None else Journal(log_file)
        self._unlogged: deque[str] = deque(maxlen=1000)
        self._quiet = quiet
        self._stream: Any = stream if stream is not None else sys.stdout
        self._terminal = not quiet and self._stream.isatty()
        self._bars: Any = None
        self._open: list[Stage] = []

    def anew(self) -> "Console":
        """A console of another run that prints where this one does."""
        return Console(quiet=self._quiet, stream=self._stream)

    def log_to(self, log_file: AnyPath) -> None:
        """Logs to this file from now on, beginning with what was said before there was one."""
        self._log = Journal(log_file)
        while self._unlogged:
            self._append(self._unlogged.popleft())

    def log(self, text: str) -> None:
        """Writes to the log file only: tracebacks and other detail."""
        stamp = f"{datetime.now():%Y-%m-%d %H:%M:%S}"
        for line in clean(text).splitlines() or [""]:
            self._append(f"{stamp}  {line}".rstrip() + "\n")

    def flush(self) -> None:
        """Returns once the log file holds everything, or raises StorageError; for buckets."""
        if self._log is not None:
            self._log.flush()

    def title(self, text: str) -> None:
        """A line that begins something."""
        self._say(text, style="bold")

    def line(self, text: str = "") -> None:
        """A plain line."""
        self._say(text)

    def warn(self, text: str) -> None:
        """A warning; `finish` repeats it. The same warning is said once."""
        if text not in self.warnings:
            self.warnings.append(text)
            self._say(f"warning: {text}", style="yellow")

    def finish(self) -> None:
        """Ends the output: repeats all warnings, so that none scrolls away unseen."""
        self._stop_bars()
        if self.warnings:
            number = len(self.warnings)
            self._say(f"{number} warning{'s' * (number > 1)} in this run:", style="yellow")
            for text in self.warnings:
                self._say(f"  - {text}")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table: drawn on a terminal, aligned text elsewhere and in the log.

        Args:
          title: the line above.
          columns: the headings.
          rows: one text per heading.

        Raises:
          ValueError: a row has more or fewer cells than there are headings.
        """
        text = plain_table(title, columns, rows)
        self.log(text)
        if not self._terminal:
            self.print_plain(text)
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(clean(title), style="bold"), title_justify="left", box=box.SIMPLE)
        for i, name in enumerate(columns):
            table.add_column(
                Text(clean(name)), justify="right" if right_aligned(rows, i) else "left"
            )
        for row in rows:
            table.add_row(*(Text(clean(cell)) for cell in row))
        self._rich().print(table)

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> "Iterator[Stage]":
        """A named part of the run: progress inside, one line with its wall time at the end.

        Args:
          name: what is going on, such as "unlearning".
          total: number of steps, where it is known.

        Yields:
          The stage, whose `update` shows progress and whose `note` prints a line.

        Example:
          >>> console = Console(quiet=True)
          >>> with console.stage("unlearning", total=2) as stage:
          ...     stage.update(1, loss=0.5)
          >>> list(console.stage_times)
          ['unlearning']

        """
        stage = Stage(self, name, total)
        self._open.append(stage)
        if total is None:
            self.log(f"{name} ...")
            if not self._terminal:
                self.print_plain(clean(f"{name} ..."))
        how = "stopped after"
        try:
            yield stage
            how = "done in"
        finally:
            self._open.remove(stage)
            seconds = stage.close()
            own = seconds - stage.inner_seconds
            self.stage_times[name] = self.stage_times.get(name, 0.0) + own
            if self._open:
                self._open[-1].inner_seconds += seconds
            else:
                self._stop_bars()
            words = name, stage.state(), f"{how} {format_seconds(seconds)}"
            self._say("  ".join(filter(None, words)))

    def _say(self, text: str, *, style: str | None = None) -> None:
        self.log(text)
        if self._terminal:
            from rich.text import Text

            self._rich().print(Text(clean(text), style=style or ""), soft_wrap=True)
        else:
            self.print_plain(clean(text))

    def print_plain(self, text: str) -> None:
        """A line as it is, and not into the log."""
        if not self._quiet:
            encoding = getattr(self._stream, "encoding", None) or "utf-8"
            self._stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")
            self._stream.flush()

    def _append(self, line: str) -> None:
        (self._unlogged if self._log is None else self._log).append(line)

    def _rich(self) -> Any:
        """The rich console; while bars are shown, the one that prints above them."""
        if self._bars is not None:
            return self._bars.console
        from rich.console import Console as RichConsole

        return RichConsole(file=self._stream, highlight=False, markup=False, emoji=False)

    def bars(self) -> Any:
        """One live display for all open stages, on a terminal: two would fight for the screen."""
        if self._bars is None and self._terminal:
            from rich import progress as p

            self._bars = p.Progress(
                p.TextColumn("{task.description}", markup=False),
                p.BarColumn(bar_width=24),
                p.TextColumn("{task.fields[state]}", markup=False),
                p.TimeElapsedColumn(),
                console=self._rich(),
                transient=True,
            )
            self._bars.start()
        return self._bars

    def _stop_bars(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
