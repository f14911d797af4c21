# SPDX-License-Identifier: Apache-2.0
"""Small files written whole or not at all: through a rename, or as an object of a store."""

import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from unilogit_jax.errors import CheckpointError, StorageError
from unilogit_jax.paths import AnyPath, Remote


def write_text(path: AnyPath, text: str) -> None:
    """Writes a text file atomically; a reader sees the old file or the new one, never a part.

    Args:
      path: the file; missing parent folders are made.
      text: its new content, stored as UTF-8.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     write_text(Path(folder) / "a" / "status", "done")
      ...     (Path(folder) / "a" / "status").read_text()
      'done'

    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: AnyPath, data: bytes) -> None:
    """Writes a binary file atomically, making its parent folders.

    Args:
      path: the file.
      data: its new content.

    Raises:
      StorageError: the disk or the store refuses; the old file is as it was.
    """
    if isinstance(path, Remote):
        path.write_bytes(data)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink()


@contextmanager
def refusals(path: AnyPath) -> Iterator[None]:
    """Says in one sentence what a disk refuses while the file is written.

    Raises:
      StorageError: it refused.

    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror or error}. What was written before is "
            "intact. Mend that, then try again; a run goes on with --resume."
        ) from error


def write_json(path: AnyPath, obj: Any) -> None:
    """Writes an object as indented JSON, atomically.

    Dataclasses become objects, paths strings, arrays and their scalars plain numbers. JSON has no
    NaN and no infinity: both become null.

    Args:
      path: the file; missing parent folders are made.
      obj: what to store.

    Raises:
      TypeError: the object holds something that is none of these.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     write_json(Path(folder) / "x.json", {"loss": float("nan"), "where": Path("a")})
      ...     read_json(Path(folder) / "x.json")
      {'loss': None, 'where': 'a'}

    """
    write_text(
        path, json.dumps(to_plain(obj), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    )


def read_json(path: AnyPath, kind: Any = None) -> Any:
    """Reads a JSON file.

    Args:
      path: the file.
      kind: the type of what it has to hold, such as one of `run.shapes`; None: anything.

    Returns:
      What it holds.

    Raises:
      CheckpointError: the file is missing, unreadable, no JSON, or holds something else.
    """
    value = _parsed(path)
    return value if kind is None else checked(value, kind, path)


def read_numbers(path: AnyPath) -> dict[str, float | None]:
    """The numbers of a summary.json by their names, which have a dot, such as after.forget_nll.

    Raises:
      CheckpointError: as `read_json`.

    """
    from unilogit_jax.run.shapes import Number

    tree = read_json(path, dict[str, Any])
    return checked({k: x for k, x in tree.items() if "." in k}, dict[str, Number], path)


def with_nan(numbers: Mapping[str, float | None]) -> dict[str, float]:
    """Numbers out of JSON, which has null where there was none or an infinite one, as NaN.

    Example:
      >>> with_nan({"loss": None, "step": 3.0})
      {'loss': nan, 'step': 3.0}

    """
    return {name: math.nan if value is None else value for name, value in numbers.items()}


def checked(value: Any, kind: Any, path: AnyPath) -> Any:
    """A value out of JSON, as it is.

    Raises:
      CheckpointError: it is not of the kind; the message names the file and the place in it.

    """
    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "its content"
        raise CheckpointError(
            f"{path} is damaged at {place!r:.80} ({first['msg']}). Delete it and make it again."
        ) from None
    return value


def _parsed(path: AnyPath) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} does not exist. The step that writes it has not run, or was interrupted."
        ) from None
    except StorageError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is damaged, it is no JSON ({error}). Delete it and make it again."
        ) from error


def to_plain(obj: Any) -> Any:
    """An object as JSON can hold it; see `write_json`.

    Raises:
      TypeError: it holds something that JSON cannot.

    Example:
      >>> to_plain({"loss": float("nan"), 1: (Path("a"),)})
      {'loss': None, '1': ['a']}

    """
    if isinstance(obj, float):
        return float(obj) if math.isfinite(obj) else None
    if obj is None or isinstance(obj, str | bool | int):
        return obj
    if isinstance(obj, Mapping):
        return {str(key): to_plain(value) for key, value in obj.items()}
    if isinstance(obj, Path | Remote):
        return str(obj)
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return {f.name: to_plain(getattr(obj, f.name)) for f in dataclasses.fields(obj)}
    if to_list := getattr(obj, "tolist", None):
        return to_plain(to_list())
    if isinstance(obj, Sequence | set | frozenset) and not isinstance(obj, bytes):
        return [to_plain(value) for value in obj]
    raise TypeError(f"cannot store a {type(obj).__name__} as JSON: {obj!r}")
