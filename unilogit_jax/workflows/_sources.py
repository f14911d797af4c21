# SPDX-License-Identifier: Apache-2.0
"""Tokenizers of folders and of URLs, whose small files are fetched first."""

import tempfile
from pathlib import Path

import numpy as np

from unilogit_jax.data import Tokenizer, copy_tokenizer, load_tokenizer
from unilogit_jax.data.tokenizer import FILES
from unilogit_jax.models.folders import open_folder
from unilogit_jax.paths import AnyPath


def tokenizer_of(source: AnyPath | str) -> Tokenizer:
    """The tokenizer beside the weights of a folder, or of a URL that `models.resolve` gave.

    Raises:
      WeightsError: there is none, or it cannot be read.

    """
    if isinstance(source, Path):
        return load_tokenizer(source)
    with tempfile.TemporaryDirectory() as folder:
        fetch_tokenizer(source, Path(folder))
        return load_tokenizer(folder)


def fetch_tokenizer(source: AnyPath | str, target: AnyPath) -> None:
    """Copies a tokenizer's files as they are, from and to a folder or a URL."""
    if isinstance(source, Path) and isinstance(target, Path):
        copy_tokenizer(source, target)
        return
    with open_folder(source if isinstance(source, Path) else str(source)) as folder:
        for name in FILES:
            if folder.has(name):
                data = np.empty(folder.size(name), np.uint8)
                folder.read(name, 0, data)
                (target / name).write_bytes(data.tobytes())
