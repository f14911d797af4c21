# SPDX-License-Identifier: Apache-2.0
"""Folders outside of runs that save work, and may be deleted at any time."""

import os
from pathlib import Path


def program_cache() -> Path | None:
    """Where compiled programs are kept: $UNILOGIT_CACHE, else ~/.cache/unilogit_jax/xla.

    Returns:
      The folder, or None where there is no home folder. It need not exist.

    """
    chosen = os.environ.get("UNILOGIT_CACHE")
    try:
        return Path(chosen).expanduser() if chosen else _home() / "xla"
    except RuntimeError:
        return None


def token_cache() -> Path | None:
    """Where encoded rows are kept: $UNILOGIT_CACHE/tokens, else ~/.cache/unilogit_jax/tokens.

    Returns:
      The folder, or None where there is no home folder. It need not exist.

    """
    chosen = os.environ.get("UNILOGIT_CACHE")
    try:
        return (Path(chosen).expanduser() if chosen else _home()) / "tokens"
    except RuntimeError:
        return None


def _home() -> Path:
    return Path.home() / ".cache/unilogit_jax"
