# SPDX-License-Identifier: Apache-2.0
"""Multiple choice as text: choices with letters, of which the model says one."""

import string
from collections.abc import Sequence

LETTERS = string.ascii_uppercase


def lettered(question: str, choices: Sequence[str]) -> str:
    r"""A question with its choices below it.

    Example:
      >>> lettered("Which is a colour?", ["red", "two"])
      'Which is a colour?\nA. red\nB. two'

    """
    return "\n".join([question, *(f"{LETTERS[n]}. {text}" for n, text in enumerate(choices))])


def other_letters(right: int, count: int) -> tuple[str, ...]:
    """The letters of the wrong ones of so many choices.

    Example:
      >>> other_letters(1, 4)
      ('A', 'C', 'D')

    """
    return tuple(LETTERS[n] for n in range(count) if n != right)
