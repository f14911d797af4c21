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

from unilogit_jax.data.documents import encode_documents
from unilogit_jax.data.encode import Rows, encode
from unilogit_jax.data.examples import Example
from unilogit_jax.data.prompts import Template
from unilogit_jax.data.tokenizer import Tokenizer

VERSION = 2
"""To be raised whenever encoding gives other rows for the same arguments."""
SMALLEST = 1_500_000
"""Characters: less text is encoded in a few seconds."""


def encode_cached(
    tokenizer: Tokenizer,
    examples: Sequence[Example],
    *,
    folder: Path | None,
    template: Template = "auto",
    max_length: int = 512,
    system: str | None = None,
    documents: bool = False,
    what: str = "rows",
    smallest: int = SMALLEST,
) -> Rows:
    """As `encode` or `encode_documents`; much text encoded before is read from a folder.

    Args:
      tokenizer: as there.
      examples: as there.
      folder: where encoded rows are kept; None keeps none.
      template: as there.
      max_length: as there.
      system: as there.
      documents: whether the examples are documents.
      what: as there.
      smallest: number of characters from which on rows are kept.

    Raises:
      DataError: as there; a file that is damaged or cannot be written is no error.

    """
    cut: dict[str, Any] = {"max_length": max_length}
    if not documents:
        cut |= {"template": template, "system": system}

    def make() -> Rows:
        how = encode_documents if documents else encode
        return how(tokenizer, examples, what=what, **cut)

    if folder is None or sum(len(e.question or "") + len(e.answer) for e in examples) < smallest:
        return make()
    name = _fingerprint(tokenizer, examples, [documents, cut])
    return _kept(folder / f"{name}.npz", make)


def _fingerprint(tokenizer: Tokenizer, examples: Sequence[Example], wishes: Any) -> str:
    """A hash of all that decides about the rows: text, tokenizer, template, length."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = sorted(tokenizer.get_vocab().items()) if backend is None else backend.to_str()
    facts: list[Any] = [
        VERSION,
        wishes,
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


def _kept(path: Path, make: Callable[[], Rows]) -> Rows:
    try:
        # Opened here: NumPy leaves a damaged file open.
        with path.open("rb") as opened, np.load(opened) as file:
            rows = Rows(file["tokens"], file["labels"], file["lengths"])
        if len(rows.tokens) == len(rows.labels) == len(rows.lengths):
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
