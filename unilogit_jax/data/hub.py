# SPDX-License-Identifier: Apache-2.0
"""Rows of a data set of the Hugging Face Hub, by its id: org/name or org/name:config/split."""

import re
from typing import Any, NamedTuple

from unilogit_jax.errors import DataError
from unilogit_jax.urls import one_line


class HubSet(NamedTuple):
    """One split of a data set of the Hub."""

    name: str
    config: str | None
    split: str

    def __str__(self) -> str:
        return f"{self.name}:{self.config or ''}/{self.split}"


def as_hub_set(text: str) -> HubSet | None:
    """What a text names on the Hub; None if it cannot be an id.

    Example:
      >>> as_hub_set("org/name:config/test")
      HubSet(name='org/name', config='config', split='test')
      >>> as_hub_set("org/name"), as_hub_set("rows.jsonl")
      (HubSet(name='org/name', config=None, split='train'), None)

    """
    word = r"[A-Za-z0-9][\w.-]*"
    found = re.fullmatch(rf"({word}/{word})(?::([\w.-]*)(?:/([\w.\[\]:%+-]+))?)?", text)
    return HubSet(found[1], found[2] or None, found[3] or "train") if found else None


def read_hub_rows(wanted: HubSet) -> list[tuple[str, dict[str, Any]]]:
    """All rows of the split, from the cache or the Hub, each with its place for messages.

    Raises:
      DataError: there is no such data set, configuration or split, or the Hub is out of reach.

    """
    import datasets

    try:
        table = datasets.load_dataset(wanted.name, wanted.config, split=wanted.split)
    except Exception as error:  # of the connection, the server, the data set or the disk
        raise DataError(
            f"{wanted.name} is no file here, and as a data set of the Hub it cannot be read as "
            f"{wanted} ({type(error).__name__}: {one_line(error)}). Check the spelling "
            "(org/name:config/split) and the connection; or fetch its files where there is one, "
            f"from https://huggingface.co/datasets/{wanted.name}, and give their path."
        ) from error
    return [(f"{wanted}, row {i}", dict(row)) for i, row in enumerate(table, start=1)]
