# SPDX-License-Identifier: Apache-2.0
"""Other names for the people that rows are about: who is called what, and how often."""

import random
import re
from collections.abc import Sequence

from unilogit_jax.data.examples import Example
from unilogit_jax.errors import DataError

Renaming = dict[str, str]
"""Name -> what to write in its place."""


def draw_names(
    examples: Sequence[Example], pool: Sequence[str], *, count: int, seed: int
) -> list[list[Renaming]]:
    """For each row, `count` times, another name for each of its names.

    What a row is given for one of its names is different every time. A name that is a part of a
    longer one of the row, a surname say, becomes as many words of what the longer one becomes.

    Args:
      examples: rows with `names`.
      pool: names to draw from; those of the rows themselves are passed over.
      count: how many times.
      seed: decides which.

    Raises:
      DataError: a row has no names, no row has any in its text, or the pool is too small.

    Example:
      >>> row = Example("Who is Ann Lee?", "Lee is a nurse.", names=("Ann Lee", "Lee"))
      >>> draw_names([row], ["Ann Lee", "Bo Kay"], count=1, seed=0)
      [[{'Ann Lee': 'Bo Kay', 'Lee': 'Kay'}]]

    """
    _check_rows(examples)
    own = {name for example in examples for name in example.names}
    free = [name for name in dict.fromkeys(pool) if name not in own]
    least = count + max(len(_wholes(example)) for example in examples) - 1
    if len(free) < least:
        raise DataError(
            f"method.tau name_swap wants {least} names that are not those of the rows to forget, "
            f"and there are {len(free)}: give more in data.names, a file with an invented name on "
            'each line, or in the "names" of retain rows, or set a smaller method.tau_names.'
        )
    rng = random.Random(seed)
    return [_draw(_wholes(e), e.names, free, count, rng) for e in examples]


def name_spans(text: str, names: Sequence[str]) -> list[tuple[int, int]]:
    """Where names stand in a text as whole words, the longest that fits.

    Example:
      >>> name_spans("Lee's aunt is Ann Lee, not Leeds.", ["Lee", "Ann Lee"])
      [(0, 3), (14, 21)]

    """
    either = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return [match.span() for match in re.finditer(rf"(?<!\w)(?:{either})(?!\w)", text)]


def _check_rows(examples: Sequence[Example]) -> None:
    bare = next((example for example in examples if not example.names), None)
    if bare is not None:
        raise DataError(
            f"{bare.where or 'a row to forget'}: method.tau name_swap needs to know whom the row "
            'is about; add "names": ["..."] to each row, as its text says them.'
        )
    if not any(name_spans(f"{e.question or ''}\n{e.answer}", e.names) for e in examples):
        raise DataError(
            'method.tau name_swap: no row to forget has any of its "names" in its text; they have '
            "to be written as they are there."
        )


def _wholes(example: Example) -> list[str]:
    """Names that are no part of another one."""
    names = list(dict.fromkeys(example.names))
    return [n for n in names if all(other == n or not _part(n, other) for other in names)]


def _part(name: str, whole: str) -> bool:
    return f" {name} " in f" {whole} "


def _draw(
    wholes: Sequence[str],
    names: Sequence[str],
    free: Sequence[str],
    count: int,
    rng: random.Random,
) -> list[Renaming]:
    drawn = rng.sample(free, count + len(wholes) - 1)
    place = {name: next(j for j, w in enumerate(wholes) if _part(name, w)) for name in names}
    return [
        {name: _likewise(name, wholes[j], drawn[k + j]) for name, j in place.items()}
        for k in range(count)
    ]


def _likewise(name: str, whole: str, other: str) -> str:
    """The part of another name that `name` is of its own whole one."""
    if name == whole:
        return other
    size, words = len(name.split()), other.split()
    return " ".join(words[:size] if whole.startswith(f"{name} ") else words[-size:])
