# SPDX-License-Identifier: Apache-2.0
"""Finds the files of a benchmark's splits in its folder, whatever their endings."""

from unilogit_jax.errors import DataError, suggest
from unilogit_jax.paths import AnyPath

ENDINGS = (".json", ".jsonl", ".json.gz", ".jsonl.gz", ".parquet")
"""What may follow the name of a split, the first that is there being taken."""


def find_split(folder: AnyPath, split: str) -> AnyPath | None:
    """The file of a split such as forget10 or raw/forget; None if there is none."""
    paths = (folder / f"{split}{ending}" for ending in ENDINGS)
    return next((path for path in paths if path.is_file()), None)


def require_splits(
    folder: AnyPath, splits: tuple[str, ...], *, benchmark: str, source: str
) -> dict[str, AnyPath]:
    """The files of splits that have to be there, by split.

    Raises:
      DataError: some are not; the message names them, what is there, and where they come from.

    """
    found = {split: find_split(folder, split) for split in splits}
    absent = [split for split, path in found.items() if path is None]
    if absent:
        # Of splits in folders of their own the first one's folder is listed.
        inside = (folder / absent[0]).parent
        names = [p.name for p in inside.iterdir()] if inside.is_dir() else []
        there = sorted(n.partition(".")[0] for n in names if n.endswith(ENDINGS))
        listing = f" {inside} holds: {', '.join(there)}." if there else ""
        named = ", ".join(f"'{split}'" for split in absent)
        raise DataError(
            f"{benchmark}: {named} {'is' if len(absent) == 1 else 'are'} not in data.dir = {folder}"
            f" (looked for {absent[0]}.json and the like).{listing}"
            f"{suggest(absent[0].rpartition('/')[2], there)} {source}"
        )
    return {split: path for split, path in found.items() if path is not None}
