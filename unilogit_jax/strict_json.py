# SPDX-License-Identifier: Apache-2.0
"""What JSON of strangers may not hold, wherever it is read: a name twice, half a character."""

import json
import re
from collections import Counter
from typing import Any


class Repeated(ValueError):
    """A name stands in an object twice; readers differ in which of the two they take."""

    def __init__(self, name: str):
        super().__init__(f"{name!r:.120} stands there twice")
        self.name = name


def without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, for `object_pairs_hook`.

    Raises:
      Repeated: a name stands in it twice.

    Example:
      >>> json.loads('{"a": 1, "a": 2}', object_pairs_hook=without_repetition)
      Traceback (most recent call last):
      unilogit_jax.strict_json.Repeated: 'a' stands there twice

    """
    found = dict(pairs)
    if len(found) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise Repeated(name)
    return found


def check_characters(text: str, value: Any) -> None:
    r"""Refuses half a character, which the escapes of JSON can write and no UTF-8 can hold.

    Args:
      text: the JSON.
      value: what it holds.

    Raises:
      UnicodeEncodeError: there is one, in `error.object` at `error.start`.

    Example:
      >>> check_characters(r'"\ud83d\ude00"', "\U0001f600")

    """
    if re.search(r"\\u[dD][89a-fA-F]", text):
        json.dumps(value, ensure_ascii=False).encode()
