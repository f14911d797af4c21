# SPDX-License-Identifier: Apache-2.0
"""Where and with what a run was made: versions, platform, command line, git commit; no secrets."""

import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "transformers",
    "tokenizers",
    "datasets",
    "safetensors",
    "numpy",
)
"""Packages whose versions decide what a run does."""
_SECRET_NAME = re.compile(r"token$|password|passwd|secret|api[-_]?key|credential", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"\b(hf_|sk-|ghp_|github_pat_)[A-Za-z0-9_-]{8,}|(?<=//)[^/@\s]+@")
_HIDDEN = "***"


def describe_environment() -> dict[str, Any]:
    """Versions, platform, command line and git state, as plain values.

    Environment variables are never read, and what looks like a secret on the command line is
    replaced by `***`.

    Returns:
      A dict that JSON can hold; versions of packages that are not installed are None.

    Example:
      >>> sorted(describe_environment())
      ['command_line', 'git', 'platform', 'versions', 'working_directory']

    """
    return {
        "command_line": hide_secrets(sys.argv),
        "working_directory": str(Path.cwd()),
        "versions": {"unilogit_jax": package_version(), "python": platform.python_version()}
        | {name: version_of(name) for name in PACKAGES},
        "platform": platform.platform(),
        "git": _git_state(Path.cwd()),
    }


def package_version() -> str:
    """This package's version, without importing any of its parts.

    Example:
      >>> package_version().count(".")
      2

    """
    return sys.modules[__name__.partition(".")[0]].__version__


def hide_secrets(arguments: Sequence[str]) -> list[str]:
    """A command line without values that are, or are named like, passwords and access tokens.

    Args:
      arguments: the words of a command line.

    Returns:
      The same words, secret values replaced by `***`.

    Example:
      >>> hide_secrets(["run", "hub.token=abc", "--password", "p", "hf_abcdefgh1", "seed=1"])
      ['run', 'hub.token=***', '--password', '***', '***', 'seed=1']

    """
    shown, hide_next = [], False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        named_secret = bool(_SECRET_NAME.search(name))
        if hide_next:
            shown.append(_HIDDEN)
        elif named_secret and equals:
            shown.append(f"{name}={_HIDDEN}")
        else:
            shown.append(_SECRET_VALUE.sub(_HIDDEN, argument))
        hide_next = named_secret and not equals and name.startswith("-") and not hide_next
    return shown


def version_of(package: str) -> str | None:
    """The installed version of a package, or None.

    Example:
      >>> version_of("no-such-package") is None
      True

    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_state(folder: Path) -> dict[str, Any] | None:
    """Commit and dirty flag of tracked files, or None outside a repository or without git."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    changes = _git(folder, "--no-optional-locks", "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip()
