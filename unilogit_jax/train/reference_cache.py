# SPDX-License-Identifier: Apache-2.0
"""What a frozen model says of some rows, kept in the run folder and read back while it holds."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unilogit_jax.data import Rows
from unilogit_jax.errors import StorageError, WeightsError
from unilogit_jax.hosts import exchange, is_first
from unilogit_jax.models.new_folder import complete_folder
from unilogit_jax.paths import AnyPath, Remote
from unilogit_jax.run import write_json
from unilogit_jax.train.fingerprint import weights_digest
from unilogit_jax.train.kept_arrays import Arrays, Collected, collect, map_array
from unilogit_jax.types import ALTERNATE, FORGET, RETAIN, RETAIN_ALTERNATE

MANIFEST = "manifest.json"
VERSION = 1
"""To be raised whenever the same model is asked otherwise, or files are laid out otherwise."""
SETS = {
    FORGET: "forget",
    RETAIN: "retain",
    ALTERNATE: "alternate",
    RETAIN_ALTERNATE: "retain-alternate",
}


class Question(NamedTuple):
    """What is asked of a model."""

    rows: Rows
    which: int
    """The set of the rows."""
    names: tuple[str, ...]
    """The arrays that are wanted, by the names of `Batch`."""
    top: int = 0
    """How many of the likeliest tokens."""
    layer: int | None = None
    """Where the model ends."""
    alpha: float | None = None
    """How much of what a reinforced model prefers is taken away; None: there is no such model."""


class _Unusable(Exception):
    """Kept arrays that must not be used, and why; "" where there are none."""


@dataclass(frozen=True, kw_only=True)
class ReferenceCache:
    """A folder with the answers of a model: each array a .npy file, and a manifest beside them.

    An answer is used while weights, rows, question, configuration and version are those that it
    was made with, whatever the mesh. Where it cannot be kept, it is made all the same.
    """

    folder: AnyPath
    """Of all answers: `RunFolder.references`."""
    model: Mapping[str, Any]
    """The model's configuration, as JSON takes it."""
    version: str
    """Of this library."""
    warn: Callable[[str], None]
    """Told in a sentence what was not usable or could not be kept."""
    source: str = ""
    """Where the weights are from; "" for those that unlearning starts from."""

    def answer(
        self, question: Question, params: Any, make: Callable[[], Iterable[Arrays]]
    ) -> Arrays:
        """The arrays asked for, mapped from files wherever that is possible.

        On several hosts all have to ask. The first one writes; the others keep what they computed
        in files of their own, which have no name and go with the process.

        Args:
          question: what is asked.
          params: the model's weights, sharded as they are.
          make: asks the model; gives the arrays' rows piece by piece.

        """
        made_of = self._made_of(question, params)
        place = self.folder / self._name(question, made_of["rows"])
        found = self._kept(place, made_of, question.names)
        return self._make(place, made_of, make(), len(question.rows)) if found is None else found

    def _made_of(self, question: Question, params: Any) -> dict[str, str]:
        """A digest of each thing that decides about the arrays."""
        rows, *asked = question
        parts = [np.ascontiguousarray(x) for x in (rows.tokens, rows.labels, rows.lengths)]
        shaped: list[Any] = [[x.shape, x.dtype.name] for x in parts]
        shaped += [] if rows.unseen is None else [rows.unseen]
        return {
            "weights": weights_digest(params),
            "rows": _digest(shaped, *parts),
            "configuration": _digest([dict(self.model), asked]),
            "version": f"{self.version} {VERSION}",
        }

    def _name(self, question: Question, rows: str) -> str:
        """The folder of an answer: one for each that a run can need at a time.

        So what is stale has the place of what replaces it.
        """
        _, which, names, top, layer, alpha = question
        short = {"ref_log_odds": "log_odds", "ref_hidden": "hidden"}
        words = [SETS[which], *(short[name] for name in names if name in short)]
        words += [f"top{top}"] * bool(top) + [f"layer{layer}"] * (layer is not None)
        words += ["generic"] * (alpha is not None)
        if self.source:
            words.insert(0, f"tau-{_digest(self.source)[:8]}")
        if which not in (FORGET, RETAIN):
            # Methods have other answers of their own to the same questions.
            words.append(rows[:8])
        return "-".join(words)

    def _kept(
        self, place: AnyPath, made_of: Mapping[str, str], names: Sequence[str]
    ) -> Arrays | None:
        """The arrays, if every process can read them; else the first one makes room for others."""

        def look() -> tuple[Arrays, str]:
            try:
                return _read(place, made_of, names), "fine"
            except _Unusable as error:
                return {}, str(error)

        (arrays, _), told = exchange(look, lambda found: found[1])
        if all(word == "fine" for word in told):
            return arrays
        reasons = [word for word in told if word not in ("fine", "")]
        if is_first():
            if reasons:
                self.warn(f"{reasons[0]}: what the start model says of the rows is computed anew.")
            _clear(place)
        return None

    def _make(
        self, place: AnyPath, made_of: Mapping[str, str], pieces: Iterable[Arrays], rows: int
    ) -> Arrays:
        arrays: Arrays | None = None
        if is_first():
            try:
                with complete_folder(place, last=(MANIFEST,)) as room:
                    arrays, entries, problem = collect(pieces, rows, room)
                    if problem is not None:
                        raise problem
                    write_json(room / MANIFEST, {"made_of": made_of, "arrays": entries})
            except WeightsError as error:
                self.warn(f"{error} The run goes on; a resumed one asks the start model again.")
        if arrays is None:
            arrays, _, problem = _without_name(pieces, rows)
            if problem is not None:
                self.warn(f"what the start model says is held in memory, not in files: {problem}.")
        return arrays


def _read(place: AnyPath, made_of: Mapping[str, str], names: Sequence[str]) -> Arrays:
    """The kept arrays; raises _Unusable."""
    try:
        # Listing a folder makes NFS look at it anew.
        if place.name not in {path.name for path in place.parent.iterdir()}:
            raise _Unusable("")
        text = (place / MANIFEST).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise _Unusable("") from None
    except OSError as error:
        raise _Unusable(f"{place} cannot be read ({error})") from error
    try:
        manifest = json.loads(text)
        before, entries = dict(manifest["made_of"]), dict(manifest["arrays"])
    except (ValueError, KeyError, TypeError):
        raise _Unusable(f"{place / MANIFEST} is damaged") from None
    if other := [what for what, mark in made_of.items() if before.get(what) != mark]:
        raise _Unusable(f"{place} was made with other {' and '.join(other)}")
    if isinstance(place, Remote):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as room:
            return {name: _mapped(place, name, entries, Path(room)) for name in names}
    return {name: _mapped(place, name, entries, place) for name in names}


def _mapped(place: AnyPath, name: str, entries: Mapping[str, Any], room: Path) -> np.ndarray:
    """One kept array; `room` is where its file can be mapped."""
    path = place / f"{name}.npy"
    try:
        if isinstance(path, Remote):
            path.download(room / path.name)
        # One reader of a shared disk checks for all.
        check = is_first() or isinstance(path, Remote)
        return map_array(room / path.name, entries[name], check=check)
    except StorageError as error:
        raise _Unusable(f"{error}".rstrip(".")) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _Unusable(f"{path} is damaged ({error})") from error


def _without_name(pieces: Iterable[Arrays], rows: int) -> Collected:
    """The arrays in temporary files, deleted already; in memory where there is no room for them."""
    try:
        temporary = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    except OSError as error:
        return collect(pieces, rows, None)._replace(problem=error)
    with temporary as room:
        return collect(pieces, rows, Path(room))


def _clear(place: AnyPath) -> None:
    """Removes an answer, and what a killed process left of one, as far as that is possible."""
    with suppress(OSError):
        if isinstance(place, Remote):
            # Without a manifest the rest counts for nothing.
            (place / MANIFEST).unlink(missing_ok=True)
            return
        for path in (place, *place.parent.glob(f".{place.name}.*.part")):
            shutil.rmtree(path, ignore_errors=True)


def _digest(facts: Any, *data: Any) -> str:
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for part in data:
        digest.update(part)
    return digest.hexdigest()[:32]
