# SPDX-License-Identifier: Apache-2.0
"""Errors for people: what is wrong, where, what to do; printed without a traceback."""

import difflib
from collections.abc import Iterable

_CONTROLS = {c: None for c in (*range(9), *range(11, 32), *range(127, 160))}


class UnilogitError(Exception):
    """Base of all errors that a user can mend; the command line exits with code 2."""


class ConfigError(UnilogitError):
    """A configuration file or override is wrong."""


class DataError(UnilogitError):
    """A data file or row is wrong."""


class WeightsError(UnilogitError):
    """A weights folder is missing, damaged or of an unknown kind."""


class CheckpointError(UnilogitError):
    """A checkpoint or run folder is missing, damaged or belongs to another run."""


class StorageError(UnilogitError, OSError):
    """A disk or an object store refuses something; met where an OSError is."""

    def __init__(self, message: str):
        super().__init__(message)
        self.strerror = message.rstrip(".")


class TrainingError(UnilogitError):
    """Training cannot go on: loss or gradients are no numbers any more."""


class Preempted(UnilogitError):
    """The machine wants the process to end; what was done is saved. Exit code 143."""


def check_choice(name: str, value: str, known: Iterable[str]) -> None:
    """Refuses an argument that is none of the words known.

    Raises:
      ValueError: it is not; the message lists them.

    Example:
      >>> check_choice("over", "tokens", ("tokens", "examples"))

    """
    words = list(known)
    if value not in words:
        listed = ", ".join(map(repr, words))
        raise ValueError(f"{name}={value!r} is unknown; use one of {listed}")


def suggest(word: str, known: Iterable[str]) -> str:
    """A " Did you mean 'x'?" for a mistyped word, or the empty string.

    Example:
      >>> suggest("bta", ["beta", "gamma"])
      " Did you mean 'beta'?"

    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""


def clean(text: str) -> str:
    r"""A text without control characters; line breaks and tabs stay.

    Texts come from strangers' data and models: no escape sequence of theirs reaches a terminal.

    Example:
      >>> clean("red: \x1b[31mno")
      'red: [31mno'

    """
    return text.translate(_CONTROLS)
