# SPDX-License-Identifier: Apache-2.0
"""record.json: what a report says of a run and no other of its files holds: cost, devices, digests.

Sections: data, model, devices; start: the run whose models this one began with; stages: number of
updates, tokens and operations of each; weights: a digest for each model; memory: most bytes held;
end: warnings.
"""

from typing import Any

from unilogit_jax.paths import AnyPath
from unilogit_jax.run.files import read_json, write_json

RECORD = "record.json"
"""In the run folder."""


def read_record(run: AnyPath) -> dict[str, dict[str, Any]]:
    """The sections of a run's record; none if it has no record.

    Raises:
      CheckpointError: it is damaged.

    Example:
      >>> from pathlib import Path
      >>> read_record(Path("no-such-run"))
      {}

    """
    path = run / RECORD
    from unilogit_jax.run.shapes import Record

    return read_json(path, Record) if path.is_file() else {}


def note(run: AnyPath, section: str, **facts: Any) -> None:
    """Adds facts to a section; of those that are there already, the new ones count.

    Example:
      >>> import tempfile
      >>> from pathlib import Path
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     note(Path(folder), "memory", host=3)
      ...     note(Path(folder), "memory", host=4, device=1)
      ...     read_record(Path(folder))
      {'memory': {'host': 4, 'device': 1}}

    """
    before = read_record(run)
    write_json(run / RECORD, before | {section: before.get(section, {}) | facts})
