# SPDX-License-Identifier: Apache-2.0
"""The ledger of a run: every request that its model has served, this one and those before it."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from unilogit_jax.paths import AnyPath
from unilogit_jax.run.files import read_json, write_json

LEDGER = "ledger.json"
"""In the run folder."""


def read_ledger(run: AnyPath) -> list[dict[str, Any]]:
    """The requests that a run has served, oldest first; none if it has no ledger.

    Raises:
      CheckpointError: it is damaged.

    Example:
      >>> from pathlib import Path
      >>> read_ledger(Path("no-such-run"))
      []

    """
    path = run / LEDGER
    from unilogit_jax.run.shapes import Served

    return read_json(path, list[Served]) if path.is_file() else []


def write_ledger(
    folder: AnyPath,
    rows: Iterable[tuple[str | None, str]],
    *,
    earlier: list[dict[str, Any]],
    **facts: Any,
) -> None:
    """Writes the earlier requests and this one.

    The rows themselves are not written, for they are to be forgotten; a digest of all of them says
    whether a given file is what was asked for.

    Args:
      folder: of the run.
      rows: question, or None, and answer of what was forgotten.
      earlier: the ledger of the run that this one went on from.
      **facts: what else to note, the method say.

    """
    entry = {
        "request": len(earlier) + 1,
        "served": datetime.now(UTC).isoformat(timespec="seconds"),
        **rows_digest(rows),
        **facts,
    }
    write_json(folder / LEDGER, [*earlier, entry])


def rows_digest(rows: Iterable[tuple[str | None, str]]) -> dict[str, Any]:
    """How many rows there are, and a digest of all of them in their order.

    The SHA-256 of repr(question), a line break, repr(answer), a line break, row after row.

    Args:
      rows: question, or None, and answer.

    Example:
      >>> found = rows_digest([(None, "A fact.")])
      >>> found["rows"], found["sha256"][:8]
      (1, '44aa67bf')

    """
    digest, count = hashlib.sha256(), 0
    for question, answer in rows:
        digest.update(f"{question!r}\n{answer!r}\n".encode())
        count += 1
    return {"rows": count, "sha256": digest.hexdigest()}
