# SPDX-License-Identifier: Apache-2.0
"""Folders outside of runs that save work, and may be deleted at any time."""

import os
from pathlib import Path


def program_cache() -> Path | None:
    """Where compiled programs are kept: $UNILOGIT_CACHE, else ~/.cache/unilogit_jax/xla.

    Returns:
      The folder, or None where there is no home folder. It need not exist.

    """
    return _folder("xla", in_chosen="")


def token_cache() -> Path | None:
    """Where encoded rows are kept: $UNILOGIT_CACHE/tokens, else ~/.cache/unilogit_jax/tokens.

    Returns:
      The folder, or None where there is no home folder. It need not exist.

    """
    return _folder("tokens", in_chosen="tokens")


def _folder(at_home: str, *, in_chosen: str) -> Path | None:
    chosen = os.environ.get("UNILOGIT_CACHE")
    try:
        if chosen:
            return Path(chosen).expanduser() / in_chosen
        return Path.home() / ".cache/unilogit_jax" / at_home
    except RuntimeError:
        return None
