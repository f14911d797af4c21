# SPDX-License-Identifier: Apache-2.0
"""Checks of configuration values that end in one sentence."""

from collections.abc import Sequence
from typing import Any

from unilogit_jax.errors import ConfigError, suggest


def check_positive(prefix: str, config: Any, names: Sequence[str]) -> None:
    """Every named field is larger than 0.

    Raises:
      ConfigError: one is not.

    """
    for name in names:
        value = getattr(config, name)
        if not value > 0:
            raise ConfigError(f"{prefix}{name} must be larger than 0, got {value}.")


def check_name(field: str, value: str, known: Sequence[str]) -> None:
    """The value is one of the names.

    Raises:
      ConfigError: it is not; the message lists them.

    """
    if value not in known:
        raise ConfigError(
            f"{field} '{value}' is unknown; known: {', '.join(known)}.{suggest(value, known)}"
        )
