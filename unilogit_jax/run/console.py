# SPDX-License-Identifier: Apache-2.0
"""What a person sees while a run goes: lines, stages with progress, tables; all logged too."""

import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from unilogit_jax.paths import AnyPath
from unilogit_jax.run.journal import Journal
from unilogit_jax.run.text import (
    clean,
    format_numbers,
    format_seconds,
    plain_table,
    right_aligned,
)

_PLAIN_EVERY = 5.0
_BAR_EVERY = 0.25
_SOON = 1.0


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
            self._print_plain(text)
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
                self._print_plain(clean(f"{name} ..."))
        how = "stopped after"
        try:
            yield stage
            how = "done in"
        finally:
            self._open.remove(stage)
            seconds = stage._close()
            own = seconds - stage.inner_seconds
            self.stage_times[name] = self.stage_times.get(name, 0.0) + own
            if self._open:
                self._open[-1].inner_seconds += seconds
            else:
                self._stop_bars()
            words = name, stage._state(), f"{how} {format_seconds(seconds)}"
            self._say("  ".join(filter(None, words)))

    def _say(self, text: str, *, style: str | None = None) -> None:
        self.log(text)
        if self._terminal:
            from rich.text import Text

            self._rich().print(Text(clean(text), style=style or ""), soft_wrap=True)
        else:
            self._print_plain(clean(text))

    def _print_plain(self, text: str) -> None:
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

    def _start_bars(self) -> Any:
        """One live display for all open stages: two at a time would fight for the screen."""
        if self._bars is None:
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


class Stage:
    """An open stage of a `Console`; made by `Console.stage` only."""

    def __init__(self, console: Console, name: str, total: int | None) -> None:
        self.inner_seconds = 0.0
        """Time spent in stages that were opened inside this one."""
        self._console = console
        self._name, self._total = name, total
        self._unit = ""
        self._begin = time.monotonic()
        self._shown = self._said = -float("inf")
        self._first_step: int | None = None
        self._first_time = self._begin
        self._step = 0
        self._numbers: dict[str, Any] = {}
        self._bar: Any = None
        if console._terminal:
            self._bar = console._start_bars().add_task(clean(name), total=total, state="")

    def update(self, step: int, **numbers: Any) -> None:
        """Shows progress; the numbers may be device arrays, they are read only when shown.

        Args:
          step: steps done so far.
          **numbers: what to show beside it, such as loss=0.4.
        """
        self._step, self._numbers = step, numbers
        now = time.monotonic()
        if self._first_step is None:
            self._first_step, self._first_time = step, now
        if self._bar is not None and (now - self._shown >= _BAR_EVERY or step == self._total):
            self._shown = now
            state = clean("  ".join(w for w in (self._state(), self._eta(now)) if w))
            self._console._bars.update(self._bar, completed=step, state=state)
        if now - self._said >= _PLAIN_EVERY:
            self._said = now
            line = "  ".join(w for w in (self._name, self._state(), self._eta(now)) if w)
            self._console.log(line)
            if not self._console._terminal:
                self._console._print_plain(clean(line))

    def amount(self, done: int, total: int) -> None:
        """Shows bytes done of a total, once the stage takes longer than a second."""
        if time.monotonic() - self._begin < _SOON:
            return
        self._total, self._unit = round(total / 1e6), " MB"
        if self._bar is not None:
            self._console._bars.update(self._bar, total=self._total)
        self.update(round(done / 1e6))

    def note(self, text: str) -> None:
        """Prints a line inside the stage, for example "compiling the step ... 14.2 s (once)"."""
        self._console._say(f"  {text}")

    def _state(self) -> str:
        if self._first_step is None:
            return ""
        count = f"{self._step}" if self._total is None else f"{self._step}/{self._total}"
        return f"{count}{self._unit}  {format_numbers(self._numbers)}".rstrip()

    def _eta(self, now: float) -> str:
        """Time left at the pace since the first update: the first step compiles and is left out."""
        done = self._step - (self._first_step or 0)
        if self._total is None or done <= 0:
            return ""
        left = (now - self._first_time) / done * max(0, self._total - self._step)
        return f"eta {format_seconds(left)}"

    def _close(self) -> float:
        """Removes the bar; returns the wall time."""
        if self._bar is not None and self._console._bars is not None:
            self._console._bars.remove_task(self._bar)
        return time.monotonic() - self._begin
