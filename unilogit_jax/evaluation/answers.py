# SPDX-License-Identifier: Apache-2.0
"""Generated answers: where they end."""

from collections.abc import Sequence
from typing import NamedTuple


class Answer(NamedTuple):
    """A generated answer, and whether it came to an end by itself."""

    text: str
    ended: bool


def cut_answer(text: str, stops: Sequence[str], *, ended: bool) -> Answer:
    r"""The answer up to the first of the stops.

    Example:
      >>> cut_answer(" Ann.\nWho?", ["\n"], ended=False)
      Answer(text='Ann.', ended=True)

    """
    short = before_stop(text, stops)
    return Answer(short.strip(), ended or len(short) < len(text))


def before_stop(text: str, stops: Sequence[str]) -> str:
    """The text up to the first of the stops that are not empty."""
    ends = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    return text[: min(ends, default=len(text))]
