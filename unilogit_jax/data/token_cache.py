# SPDX-License-Identifier: Apache-2.0
"""Encoded rows kept on disk, under a name made of everything that they depend on."""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from unilogit_jax.data.encode import Rows, Template, encode
from unilogit_jax.data.examples import Example
from unilogit_jax.data.tokenizer import Tokenizer

VERSION = 2
"""To be raised whenever `encode` gives other rows for the same arguments."""
SMALLEST = 5000
"""Rows: fewer are encoded in a few seconds."""


def encode_cached(
    tokenizer: Tokenizer,
    examples: Sequence[Example],
    *,
    folder: Path | None,
    template: Template = "auto",
    max_length: int = 512,
    what: str = "rows",
    smallest: int = SMALLEST,
) -> Rows:
    """As `encode`, but many rows that were encoded before are read from a folder.

    Args:
      tokenizer: as there.
      examples: as there.
      folder: where encoded rows are kept; None keeps none.
      template: as there.
      max_length: as there.
      what: as there.
      smallest: number of rows from which on they are kept.

    Raises:
      DataError: as there; a file that is damaged or cannot be written is no error.

    """

    def make() -> Rows:
        return encode(tokenizer, examples, template=template, max_length=max_length, what=what)

    if folder is None or len(examples) < smallest:
        return make()
    name = _fingerprint(tokenizer, examples, template, max_length)
    return _kept(folder / f"{name}.npz", len(examples), make)


def _fingerprint(
    tokenizer: Tokenizer, examples: Sequence[Example], template: Template, max_length: int
) -> str:
    """A hash of all that decides about the rows: text, tokenizer, template, length."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = sorted(tokenizer.get_vocab().items()) if backend is None else backend.to_str()
    facts: list[Any] = [
        VERSION,
        template,
        max_length,
        type(tokenizer).__name__,
        vocabulary,
        getattr(tokenizer, "chat_template", None),
        [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id],
    ]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for example in examples:
        text = [example.system, example.shots, example.question, example.answer]
        digest.update(json.dumps(text).encode())
    return digest.hexdigest()[:32]


def _kept(path: Path, count: int, make: Callable[[], Rows]) -> Rows:
    try:
        # Opened here: NumPy leaves a damaged file open.
        with path.open("rb") as opened, np.load(opened) as file:
            rows = Rows(file["tokens"], file["labels"], file["lengths"])
        if len(rows.tokens) == len(rows.labels) == len(rows.lengths) == count:
            return rows
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        pass
    rows = make()
    temporary = path.with_name(f".{uuid4().hex}.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(temporary, tokens=rows.tokens, labels=rows.labels, lengths=rows.lengths)
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
    return rows
