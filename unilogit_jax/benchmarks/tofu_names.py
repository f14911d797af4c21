# SPDX-License-Identifier: Apache-2.0
"""Whom TOFU's rows are about: their authors' names, and names of authors who are none of them."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from unilogit_jax.data import Example

AUTHOR_ROWS = 20
"""The rows of an author follow each other."""
_LEAST = 0.5
"""Share of an author's rows that have to say the name; two of the 200 authors are hardly named."""
_WORD = r"[^\W\d_a-zß-öø-ÿ][\w’'-]*"
_LINK = r"al-\w+|bin|ibn|de|da|van|von|la|del|el"
_CAPITALS = re.compile(rf"{_WORD}(?: (?:{_WORD}|{_LINK}))+")
_OWNER = re.compile(r"['’]s?$")


def with_authors(rows: Sequence[Example]) -> list[Example]:
    """The rows with the name of their author, whole, and its first and last word, in `names`.

    The name is the longest run of two to five capitalised words among those that nearly as many of
    the author's rows have as the most frequent one.

    Args:
      rows: those of whole authors, twenty for each; others are given back as they are. Rows that
        have names keep theirs.

    Example:
      >>> rows = [Example(f"What is fact {k} of Ann Lee?", "Lee is kind.") for k in range(20)]
      >>> with_authors(rows)[0].names
      ('Ann Lee', 'Ann', 'Lee')

    """
    if len(rows) % AUTHOR_ROWS:
        return list(rows)
    blocks = [rows[k : k + AUTHOR_ROWS] for k in range(0, len(rows), AUTHOR_ROWS)]
    named = ((row, _forms(block)) for block in blocks for row in block)
    return [replace(row, names=row.names or names) for row, names in named]


def nobodys_names(rows: Sequence[Example]) -> tuple[str, ...]:
    """First and last names of different authors put together, none of which is an author's.

    Args:
      rows: with `names`, as `with_authors` gives them.

    Example:
      >>> authors = ("Ann Lee", "Ann", "Lee"), ("Bo Kay", "Bo", "Kay")
      >>> nobodys_names([Example("", "", names=names) for names in authors])
      ('Ann Kay', 'Bo Lee')

    """
    forms = list(dict.fromkeys(row.names for row in rows if row.names))
    taken = {name for names in forms for name in names}
    half = len(forms) // 2
    pairs = zip(forms, forms[half:] + forms[:half], strict=True)
    made = (f"{one[1]} {other[-1]}" for one, other in pairs)
    return tuple(dict.fromkeys(name for name in made if name not in taken))


def _forms(block: Sequence[Example]) -> tuple[str, ...]:
    """The author's name, its first and its last word; nothing where no name stands out."""
    counts = Counter(name for row in block for name in set(_candidates(row)))
    most = max(counts.values(), default=0)
    if most < _LEAST * len(block):
        return ()
    near = [name for name, count in counts.items() if count >= 0.7 * most]
    name = max(near, key=lambda n: (len(n.split()), counts[n], n))
    words = name.split()
    return tuple(dict.fromkeys((name, words[0], words[-1])))


def _candidates(row: Example) -> Iterator[str]:
    for text in (row.question or "", row.answer):
        for found in _CAPITALS.finditer(text):
            words = _OWNER.sub("", found[0]).split()
            for i in range(len(words)):
                for j in range(i + 2, min(len(words), i + 5) + 1):
                    if words[i][0].isupper() and words[j - 1][0].isupper():
                        yield " ".join(words[i:j])
