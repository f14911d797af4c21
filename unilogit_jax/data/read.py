# SPDX-License-Identifier: Apache-2.0
"""Reads rows of text from a file, and says which line is wrong and what was expected."""

import gzip
import json
import tempfile
import zlib
from pathlib import Path
from typing import Any

from unilogit_jax.data.examples import Example
from unilogit_jax.errors import DataError, StorageError, suggest
from unilogit_jax.paths import AnyPath, to_source

EXPECTED = 'one of {"question": ..., "answer": ...} or {"text": ...}'
TABLES = {".csv": "csv", ".parquet": "parquet"}
"""Endings that the datasets library reads."""


def read_examples(path: str | AnyPath) -> list[Example]:
    """Reads rows from JSON Lines, a JSON list, CSV or Parquet, on a disk or behind a URL.

    JSON may be packed with gzip, whatever the file's ending. Each row holds "question" and
    "answer", or "text", or is a text itself. A question may have other answers in a list
    "alternates", and any row the names of those it is about in a list "names". Other fields are
    ignored.

    Raises:
      DataError: the file is missing, empty or not text, or a row is not of that form; the message
        names the line and what was expected.
      StorageError: the URL's store refuses it, or is out of reach.

    """
    rows = read_rows(path)
    examples = [_example(row, where) for where, row in rows]
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


def read_rows(path: str | AnyPath) -> list[tuple[str, dict[str, Any]]]:
    """The raw rows of a file, each with its place ("file:line") for messages."""
    path = _found(path)
    if path.suffix in TABLES:
        return _read_table(path)
    text = _text(path)
    if text.lstrip().startswith("["):
        return _read_list(path, text)
    # Split on the newline alone: other Unicode line ends occur inside strings.
    lines = ((n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip())
    return [(f"{path}:{n}", _json(line, f"{path}, line {n}")) for n, line in lines]


def _found(path: str | AnyPath) -> AnyPath:
    path = to_source(path)
    if not path.is_file():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"data file not found: {path}.{suggest(path.name, siblings)}")
    return path


def _text(path: AnyPath) -> str:
    data = path.read_bytes()
    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{path} is a damaged gz file ({error}): copy or download it again."
            ) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}).") from error


def _read_list(path: AnyPath, text: str) -> list[tuple[str, dict[str, Any]]]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}).") from error
    return [(f"{path}[{i}]", _mapping(row, f"{path}, item {i}")) for i, row in enumerate(rows)]


def _read_table(path: AnyPath) -> list[tuple[str, dict[str, Any]]]:
    import datasets

    try:
        parquet = path.suffix == ".parquet"
        read = datasets.Dataset.from_parquet if parquet else datasets.Dataset.from_csv
        if isinstance(path, Path):
            table = read(str(path))
        else:
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / path.name).write_bytes(path.read_bytes())
                # In memory: the file is gone before its rows are read.
                table = read(str(Path(folder) / path.name), cache_dir=folder, keep_in_memory=True)
    except StorageError:
        raise
    except Exception as error:
        raise DataError(f"{path} cannot be read as {TABLES[path.suffix]}: {error}") from error
    return [(f"{path}, row {i}", dict(row)) for i, row in enumerate(table, start=1)]


def _json(line: str, where: str) -> dict[str, Any]:
    try:
        return _mapping(json.loads(line), where)
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


def _example(row: dict[str, Any], where: str) -> Example:
    names = ("question", "answer") if "text" not in row else ("text",)
    for name in names:
        value = row.get(name)
        if not isinstance(value, str) or not value.strip():
            problem = "is missing" if name not in row else "must be text that is not empty"
            hint = suggest(name, [k for k in row if k not in names]) if name not in row else ""
            raise DataError(f"{where}: '{name}' {problem}; expected {EXPECTED}.{hint}")
    people = _texts(row, "names", where)
    if names == ("text",):
        return Example(None, row["text"], where, names=people)
    alternates = _texts(row, "alternates", where)
    return Example(row["question"], row["answer"], where, alternates, people)


def _texts(row: dict[str, Any], name: str, where: str) -> tuple[str, ...]:
    """An optional field of several texts."""
    texts = row.get(name) or ()
    if not isinstance(texts, (list, tuple)) or not all(
        isinstance(text, str) and text.strip() for text in texts
    ):
        raise DataError(f"{where}: '{name}' must be a list of texts that are not empty.")
    return tuple(texts)
