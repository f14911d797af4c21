# SPDX-License-Identifier: Apache-2.0
"""Reads rows of text from a file, and says which line is wrong and what was expected."""

import csv
import gzip
import io
import json
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from unilogit_jax.data.chats import read_chat
from unilogit_jax.data.examples import Example
from unilogit_jax.data.hub import as_hub_set, read_hub_rows
from unilogit_jax.data.json_text import EXPECTED, parse_list, parse_row
from unilogit_jax.errors import DataError, StorageError, suggest
from unilogit_jax.paths import AnyPath, to_source
from unilogit_jax.urls import one_line

UNPACKED, RATIO = 256 << 20, 100
"""A file packed with gzip holds at most so many bytes, or so many times its own: text packs to a
tenth, a bomb to a thousandth."""


def read_examples(path: str | AnyPath) -> list[Example]:
    """Reads rows from JSON Lines, a JSON list, CSV or Parquet: a file, a URL, or a set of the Hub.

    JSON and CSV may be packed with gzip, whatever the file's ending, up to 256 MiB of text or 100
    times the file's size, whichever is more. Each row holds "question" and
    "answer", a conversation "messages", or "text", or is a text itself. A question may have other
    answers in a list "alternates", and any row the names of those it is about in a list "names".
    Other fields are ignored.

    Args:
      path: of a file on a disk or behind a URL; or, where there is no such file, the id of a data
        set of the Hub, "org/name" or "org/name:config/split".

    Raises:
      DataError: the file is missing, empty or not text, or a row is not of that form; the message
        names the line and what was expected.
      StorageError: the URL's store refuses it, or is out of reach.

    """
    examples = [as_example(row, where) for where, row in read_rows(path)]
    if not examples:
        raise DataError(f"{path} is empty: expected one row per line, {EXPECTED}.")
    return examples


def read_lines(path: str | AnyPath) -> list[str]:
    """The lines of a text file that are not blank, without white space at their ends.

    Raises:
      DataError: the file is missing, empty or not text.

    """
    lines = [line for text in _text(_found(path)).split("\n") if (line := text.strip())]
    if not lines:
        raise DataError(f"{path} is empty: expected one entry per line.")
    return lines


def read_texts(path: str | AnyPath) -> list[Example]:
    """Plain text, one row for each line, or the rows of a file that `read_examples` reads.

    JSON is told from text by how the file begins, whatever its ending.

    Raises:
      DataError: as there; or a line of JSON among lines of text.

    """
    hub = isinstance(path, str) and as_hub_set(path) and not _is_local(path)
    if hub or re.search(r"\.(parquet|csv|csv\.gz)$", str(path)):
        return read_examples(path)
    text = _text(_found(path))
    if re.match(r'\s*(\{\s*"|\[\s*[{"])', text) or not text.strip():
        return read_examples(path)
    lines = [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    for n, line in lines:
        if re.match(r'\{\s*"text"\s*:', line):
            raise DataError(f"{path}:{n} is JSON, but the file begins with plain text.")
    return [Example(None, line, f"{path}:{n}") for n, line in lines]


def read_rows(path: str | AnyPath) -> list[tuple[str, dict[str, Any]]]:
    """The raw rows of a file or a set of the Hub, each with its place ("file:line")."""
    if isinstance(path, str) and (hub := as_hub_set(path)) and not _is_local(path):
        return read_hub_rows(hub)
    path = _found(path)
    if path.suffix == ".parquet":
        return _read_parquet(path)
    text = _text(path)
    if re.search(r"\.csv(\.gz)?$", path.name):
        return _read_csv(path, text)
    if text.lstrip().startswith("["):
        return _read_list(path, text)
    # Split on the newline alone: other Unicode line ends occur inside strings.
    lines = ((n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip())
    return [(f"{path}:{n}", _json(line, f"{path}, line {n}")) for n, line in lines]


def as_example(row: dict[str, Any], where: str) -> Example:
    """One row as an example.

    Raises:
      DataError: it has none of the forms that `read_examples` takes.

    """
    names = texts_of(row, "names", where)
    alternates = texts_of(row, "alternates", where)
    if "messages" in row:
        chat = read_chat(row["messages"], where)
        return Example(
            chat.question,
            chat.answer,
            where,
            alternates=alternates,
            names=names,
            shots=chat.shots,
            system=chat.system,
        )
    fields = ("question", "answer") if "text" not in row else ("text",)
    for name in fields:
        value = row.get(name)
        if not isinstance(value, str) or not value.strip():
            problem = "is missing" if name not in row else "must be text that is not empty"
            hint = suggest(name, [k for k in row if k not in fields]) if name not in row else ""
            raise DataError(f"{where}: '{name}' {problem}; expected {EXPECTED}.{hint}")
    if fields == ("text",):
        return Example(None, row["text"], where, names=names)
    return Example(row["question"], row["answer"], where, alternates=alternates, names=names)


def texts_of(row: dict[str, Any], name: str, where: str) -> tuple[str, ...]:
    """A field that holds a list of texts, or nothing.

    Raises:
      DataError: it holds something else.

    """
    texts = row.get(name) or ()
    if not isinstance(texts, (list, tuple)) or not all(
        isinstance(text, str) and text.strip() for text in texts
    ):
        raise DataError(f"{where}: '{name}' must be a list of texts that are not empty.")
    return tuple(texts)


def _is_local(path: str) -> bool:
    """Whether a text that could name a set of the Hub is a file here, or meant to be one."""
    place = Path(path)
    return place.exists() or (":" not in path and (place.parent.is_dir() or bool(place.suffix)))


def _found(path: str | AnyPath) -> AnyPath:
    path = to_source(path)
    try:
        if path.is_file():
            return path
        if path.exists():
            raise DataError(f"{path} is a folder or a device: name a file of rows.")
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    except StorageError:
        raise
    except OSError as error:
        raise DataError(f"{str(path)!r:.80} cannot be read: {error.strerror}.") from None
    near = suggest(path.name, {*siblings} - {path.name})
    raise DataError(f"data file not found: {path}.{near}")


def _text(path: AnyPath) -> str:
    try:
        data = path.read_bytes()
    except StorageError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    if data.startswith(b"\x1f\x8b"):
        try:
            data = _unpack(path, data)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{path} is a damaged gz file ({error}): copy or download it again."
            ) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}).") from error


def _unpack(path: AnyPath, data: bytes) -> bytes:
    """The contents of gzip; no more of a bomb is unpacked than is allowed."""
    most = max(UNPACKED, RATIO * len(data))
    parts, size = [], 0
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        while part := file.read(1 << 20):
            parts.append(part)
            size += len(part)
            if size > most:
                raise DataError(
                    f"{path} unpacks to more than {most >> 20} MiB, which text of {len(data)} "
                    "bytes never does: if you trust it, unpack it with gunzip and name that file."
                )
    return b"".join(parts)


def _read_list(path: AnyPath, text: str) -> list[tuple[str, dict[str, Any]]]:
    try:
        rows = parse_list(text, str(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}).") from error
    return [(f"{path}[{i}]", _mapping(row, f"{path}, item {i}")) for i, row in enumerate(rows)]


def _read_csv(path: AnyPath, text: str) -> list[tuple[str, dict[str, Any]]]:
    # Strict: a quote that is never closed would swallow all rows behind it.
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    longest = csv.field_size_limit(len(text))
    try:
        names = Counter(name for name in reader.fieldnames or () if name)
        if twice := [name for name, count in names.items() if count > 1]:
            raise DataError(f"{path}: the column '{twice[0]}' is there twice; keep one of them.")
        # Surplus cells come under None, absent ones as None.
        rows = [(reader.line_num, {k: v for k, v in row.items() if k and v}) for row in reader]
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num} cannot be read as CSV: {error}.") from error
    finally:
        csv.field_size_limit(longest)
    return [(f"{path}:{line}", row) for line, row in rows]


def _read_parquet(path: AnyPath) -> list[tuple[str, dict[str, Any]]]:
    import pyarrow.parquet

    try:
        # A path would also be searched for values of columns, as in year=2024/rows.parquet.
        file = path.open("rb") if isinstance(path, Path) else io.BytesIO(path.read_bytes())
        with file:
            table = pyarrow.parquet.read_table(file).to_pylist()
    except StorageError:
        raise
    except Exception as error:  # pyarrow has many kinds
        raise DataError(f"{path} cannot be read as parquet: {one_line(error)}.") from error
    return [(f"{path}, row {i}", row) for i, row in enumerate(table, start=1)]


def _json(line: str, where: str) -> dict[str, Any]:
    try:
        return _mapping(parse_row(line, where), where)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: not valid JSON ({error.msg}, column {error.colno}); expected {EXPECTED}."
        ) from error


def _mapping(row: Any, where: str) -> dict[str, Any]:
    if isinstance(row, str):
        return {"text": row}
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected {EXPECTED}, got {type(row).__name__}.")
    return row
