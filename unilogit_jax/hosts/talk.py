# SPDX-License-Identifier: Apache-2.0
"""What the processes of a run tell each other: values of the first one, failures of any."""

import hashlib
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from unilogit_jax.errors import ConfigError, Preempted, TrainingError, UnilogitError

T = TypeVar("T")

ROOM = 8192
"""Bytes of a message; one size, so that exchanging them is compiled once."""

FAILED, FINE = "!", "="
"""How a message begins."""


def several() -> bool:
    """Whether this is one of several processes; asks for no devices where it is not."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Whether this process writes: it is the first one, or the only one."""
    return process_number() == 0


def process_number() -> int:
    """Which one this is; 0 is the first."""
    return sys.modules["jax"].process_index() if several() else 0


def agreed(action: Callable[[], T]) -> T:
    """Runs something in every process; where it fails in one, all fail.

    Without this, the others would wait for the failed one in the next computation.

    Args:
      action: what to run. It may itself call functions of this file; it must not compute across
        processes after something that can fail in one of them only.

    Returns:
      What the action returned here.

    Raises:
      UnilogitError: the action failed in another process; its message says in which.

    Example:
      >>> agreed(lambda: 1 + 1)
      2

    """
    return exchange(action, lambda value: "")[0]


def by_first(action: Callable[[], Any]) -> None:
    """Runs something, such as writing, in the first process; where it fails, all fail."""
    agreed(lambda: action() if is_first() else None)


def from_first(make: Callable[[], str]) -> str:
    """A short text that the first process makes, in all of them; where it fails, all fail.

    Example:
      >>> from_first(lambda: "runs/1123-210400-toy")
      'runs/1123-210400-toy'

    """
    return exchange(lambda: make() if is_first() else "", str)[1][0]


def check_same(what: str, *data: Any) -> None:
    """Refuses to go on where the processes have different data.

    Args:
      what: what it is, for the message.
      *data: bytes, or arrays whose rows are neighbours in memory.

    Raises:
      ConfigError: they do, in every process.

    """
    if not several():
        return
    digest = hashlib.blake2b()
    for part in data:
        digest.update(part)
    _, marks = exchange(digest.hexdigest, str)
    others = [str(number) for number, mark in enumerate(marks) if mark != marks[0]]
    if others:
        raise everywhere(
            ConfigError(
                f"the processes do not have the same {what}: process {', '.join(others)} differs "
                "from the first one. Start all of them with the same arguments, files and "
                "versions, and one run folder that they share."
            )
        )


def failed_alone(error: BaseException) -> bool:
    """Whether the other processes know nothing of an error, and may wait for this one forever."""
    # All break off at the same numbers, and are asked to stop together.
    told = isinstance(error, TrainingError | Preempted) or vars(error).get("everywhere", False)
    return several() and not told


def exchange(action: Callable[[], T], say: Callable[[T], str]) -> tuple[T, list[str]]:
    """Runs something in every process; its value here, and what each said of its own.

    Whoever fails says so in its next round, whichever that is, and the others hear it in theirs. An
    error that has been told is marked, so that it is told once.
    """
    if not several():
        value = action()
        return value, [say(value)]
    try:
        value = action()
        words = FINE + say(value)
    except Exception as error:
        if not failed_alone(error):
            raise
        kind = "" if isinstance(error, UnilogitError) else f"{type(error).__name__}: "
        _gather(f"{FAILED}{kind}{error}")
        raise everywhere(error) from None
    told = _gather(words)
    for number, text in enumerate(told):
        if text.startswith(FAILED):
            raise everywhere(UnilogitError(f"process {number} failed: {text[1:]}"))
    return value, [text[1:] for text in told]


def everywhere(error: Exception) -> Exception:
    """Marks an error that every process raises now."""
    vars(error)["everywhere"] = True
    return error


def _gather(text: str) -> list[str]:
    """The texts of all processes, cut to `ROOM` bytes."""
    import numpy as np
    from jax.experimental.multihost_utils import process_allgather

    message = np.zeros(ROOM, np.uint8)
    data = np.frombuffer(text.encode()[:ROOM], np.uint8)
    message[: len(data)] = data
    rows = np.asarray(process_allgather(message))
    return [row.tobytes().rstrip(b"\0").decode("utf-8", "replace") for row in rows]
