# SPDX-License-Identifier: Apache-2.0
"""JSON of strangers: what it holds, or which line or item cannot be read, and why."""

import json
import re
from typing import Any

from unilogit_jax.errors import DataError
from unilogit_jax.strict_json import Repeated, check_characters, without_repetition

EXPECTED = 'one of {"question": ..., "answer": ...}, {"messages": [...]} or {"text": ...}'


def parse_row(text: str, where: str) -> Any:
    """What JSON text holds.

    Raises:
      DataError: it holds what no row may hold; the message begins with `where`.
      json.JSONDecodeError: it is no JSON.

    """
    try:
        return _parse(text, where)
    except Repeated as error:
        raise _told(where, error) from None


def parse_list(text: str, where: str) -> Any:
    """As `parse_row`, of a list, whose item a message may name."""
    try:
        return _parse(text, where)
    except Repeated as error:
        raise _told(f"{where}, item {_item_of_repetition(text)}", error) from None


def _parse(text: str, where: str) -> Any:
    try:
        value = json.loads(text, object_pairs_hook=without_repetition)
        check_characters(text, value)
    except (json.JSONDecodeError, Repeated):
        raise
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise DataError(
            f"{where}: a text holds half a character, {half!r}: write characters whole."
        ) from None
    except RecursionError:
        raise DataError(f"{where}: nested too deeply; expected {EXPECTED}.") from None
    except ValueError:
        raise DataError(f"{where}: a number of more digits than can be read.") from None
    return value


def _told(where: str, error: Repeated) -> DataError:
    return DataError(f"{where}: {error.name!r:.60} is there twice; keep one of them.")


def _item_of_repetition(text: str) -> int:
    """The number of the item, from 0, in which a name stands twice; there is one."""
    decoder, between = json.JSONDecoder(object_pairs_hook=without_repetition), re.compile(r"[\s,]*")
    place, number = text.index("[") + 1, 0
    while True:
        found = between.match(text, place)
        assert found is not None
        try:
            _, place = decoder.raw_decode(text, found.end())
        except Repeated:
            return number
        number += 1
