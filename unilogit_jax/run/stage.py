# SPDX-License-Identifier: Apache-2.0
"""An open stage of a console: what is done of how much, how fast, and how long the rest takes."""

import time
from typing import Any, Protocol

from unilogit_jax.errors import clean
from unilogit_jax.run.text import format_numbers, format_seconds

_PLAIN_EVERY = 5.0
_BAR_EVERY = 0.25
_SOON = 1.0


class Screen(Protocol):
    """What a stage needs of the console that it is shown on."""

    def log(self, text: str) -> None:
        """Writes to the log file only."""
        ...

    def line(self, text: str = "") -> None:
        """Prints and logs a line."""
        ...

    def print_plain(self, text: str) -> None:
        """Prints a line and does not log it."""
        ...

    def bars(self) -> Any:
        """The live display of all open stages; None where there are none."""
        ...


class Stage:
    """A stage that `Console.stage` has opened."""

    def __init__(self, screen: Screen, name: str, total: int | None) -> None:
        self.inner_seconds = 0.0
        """Time spent in stages that were opened inside this one."""
        self._screen = screen
        self._name, self._total = name, total
        self._unit = ""
        self._begin = time.monotonic()
        self._shown = self._said = -float("inf")
        self._first_step: int | None = None
        self._first_time = self._begin
        self._step = 0
        self._numbers: dict[str, Any] = {}
        self._anything = False
        self._bars = screen.bars()
        self._bar = self._bars and self._bars.add_task(clean(name), total=total, state="")

    def update(self, step: int, **numbers: Any) -> None:
        """Shows progress; the numbers may be device arrays, they are read only when shown.

        Args:
          step: steps done so far.
          **numbers: what to show beside it, such as loss=0.4.
        """
        self._reach(step)
        self._numbers = numbers
        self._show()

    def amount(self, done: int, total: int) -> None:
        """Shows bytes done of a total, once the stage takes longer than a second."""
        self.items("MB", round(done / 1e6), round(total / 1e6))

    def items(self, what: str, done: int, total: int) -> None:
        """Shows how many of some things are done, and how many a second, once a second is over.

        Args:
          what: these things, such as "answers"; others than before begin a new part of the stage.
          done: so many.
          total: of so many.
        """
        if what != self._unit or done < self._step:
            self._unit, self._first_step = what, None
        self._total = total
        self._reach(done)
        now = time.monotonic()
        pace = self._pace(now)
        self._numbers = {f"{what}_per_second": pace} if pace else {}
        if now - self._begin >= _SOON:
            self._show()

    def note(self, text: str) -> None:
        """Prints a line inside the stage, for example "compiling the step ... 14.2 s (once)"."""
        self._screen.line(f"  {text}")

    def state(self) -> str:
        """How far it is, as words; nothing before something has been shown."""
        if not self._anything:
            return ""
        unit = f" {self._unit}" if self._unit else ""
        count = f"{self._step}" if self._total is None else f"{self._step}/{self._total}"
        return f"{count}{unit}  {format_numbers(self._numbers)}".rstrip()

    def close(self) -> float:
        """Removes the bar; returns the wall time."""
        if self._bars is not None:
            self._bars.remove_task(self._bar)
        return time.monotonic() - self._begin

    def _reach(self, step: int) -> None:
        self._step = step
        if self._first_step is None:
            self._first_step, self._first_time = step, time.monotonic()

    def _show(self) -> None:
        """On the bar or as a line, unless that was done a moment ago."""
        now, self._anything = time.monotonic(), True
        due = now - self._shown >= _BAR_EVERY or self._step == self._total
        if self._bars is not None and due:
            self._shown = now
            state = clean("  ".join(w for w in (self.state(), self._eta(now)) if w))
            bar = {"completed": self._step, "total": self._total, "state": state}
            self._bars.update(self._bar, **bar)
        if now - self._said >= _PLAIN_EVERY:
            self._said = now
            line = "  ".join(w for w in (self._name, self.state(), self._eta(now)) if w)
            self._screen.log(line)
            if self._bars is None:
                self._screen.print_plain(clean(line))

    def _pace(self, now: float) -> float:
        """Steps a second since the first update: it compiles and is left out; 0: not known."""
        done, seconds = self._step - (self._first_step or 0), now - self._first_time
        return done / seconds if done > 0 and seconds > 0 else 0.0

    def _eta(self, now: float) -> str:
        """Time left at this pace."""
        pace = self._pace(now)
        if self._total is None or not pace:
            return ""
        return f"eta {format_seconds(max(0, self._total - self._step) / pace)}"
