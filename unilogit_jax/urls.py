# SPDX-License-Identifier: Apache-2.0
"""URLs of files: their kind, and the file system of fsspec behind them."""

import logging
import re
from typing import Any

from unilogit_jax.errors import StorageError, suggest


def scheme_of(source: str) -> str:
    """The kind of a URL, or the empty string; "::" chains several.

    Example:
      >>> scheme_of("gs://bucket/model"), scheme_of("org/name")
      ('gs', '')

    """
    found = re.match(r"([A-Za-z][\w+.-]*)(://|::)", source)
    return found[1] if found else ""


def file_system(url: str, **options: Any) -> tuple[Any, str]:
    """The fsspec file system behind a URL, and the path in it.

    Args:
      url: of any kind that fsspec knows.
      **options: of the file system.

    Raises:
      StorageError: the kind is unknown, or its package is missing.

    """
    try:
        from fsspec.core import url_to_fs
        from fsspec.registry import known_implementations
    except ImportError:
        raise StorageError(f"{url} cannot be read without fsspec: pip install fsspec.") from None
    # gcsfs logs what it raises too.
    logger = logging.getLogger("gcsfs")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    try:
        system, root = url_to_fs(url, **options)
    except ImportError as error:
        extra = "; pip install gcsfs" if scheme_of(url) in ("gs", "gcs") else ""
        raise StorageError(f"{url} cannot be read: {one_line(error)}{extra}.") from None
    except Exception as error:  # every file system has errors of its own
        known = () if scheme_of(url) in known_implementations else known_implementations
        hint = suggest(scheme_of(url), known)
        raise StorageError(f"{url} cannot be read: {one_line(error)}.{hint}") from None
    return system, root.rstrip("/")


def one_line(error: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split()).rstrip(".")
