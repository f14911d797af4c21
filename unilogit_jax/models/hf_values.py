# SPDX-License-Identifier: Apache-2.0
"""Single values of a config.json, which anybody may have written: of the right kind, or refused."""

from collections.abc import Mapping
from typing import Any

from unilogit_jax.errors import WeightsError

HfConfig = Mapping[str, Any]
"""A parsed config.json. A missing key means the family's own default, which each reader gives."""

MOST_LAYERS = 10_000
"""What is done for each layer would otherwise be done without end."""


def integer(
    hf: HfConfig,
    key: str,
    *,
    default: int | None = None,
    least: int | None = None,
    most: int = 2**31 - 1,
) -> int:
    """A whole number from `least` to `most`.

    Raises:
      WeightsError: it is something else, or missing without a default.

    """
    value = hf.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool):
        raise WeightsError(f"'{key}' must be a whole number, got {value!r:.60}.")
    if least is not None and value < least:
        raise WeightsError(f"'{key}' must be at least {least}, got {value!r:.60}.")
    if abs(value) > most:
        raise WeightsError(f"'{key}' must be at most {most}, got {value!r:.60}.")
    return value


def number(hf: HfConfig, key: str, *, default: float | None = None) -> float:
    """A finite number.

    Raises:
      WeightsError: it is something else, or missing without a default.

    """
    value = hf.get(key)
    value = default if value is None else value
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise WeightsError(f"'{key}' must be a number, got {value!r:.60}.")
    # Larger ones are no float32; NaN is not smaller either.
    if not abs(value) < 1e38:
        raise WeightsError(f"'{key}' must be a finite number, got {value!r:.60}.")
    return float(value)


def positive(hf: HfConfig, key: str, *, default: float) -> float:
    """A number above 0.

    Raises:
      WeightsError: it is something else.

    """
    value = number(hf, key, default=default)
    if not value > 0:
        raise WeightsError(f"'{key}' must be larger than 0, got {value!r}.")
    return value


def section(hf: HfConfig, key: str) -> Mapping[str, Any]:
    """A JSON object; empty where the key is missing or null.

    Raises:
      WeightsError: it is something else.

    """
    value = hf.get(key) or {}
    if not isinstance(value, Mapping):
        raise WeightsError(f"'{key}' must be an object with keys of its own, got {value!r:.60}.")
    return value


def layer_count(hf: HfConfig, key: str, *, default: int | None = None) -> int:
    """A number of layers.

    Raises:
      WeightsError: it is something else, or more than `MOST_LAYERS`.

    """
    return integer(hf, key, default=default, most=MOST_LAYERS)


def flag(hf: HfConfig, key: str, *, default: bool = False) -> bool:
    """True or false."""
    value = hf.get(key)
    return default if value is None else bool(value)


def refuse(hf: HfConfig, key: str, *, wanted: Any) -> None:
    """Refuses a feature that is not there: the key may be missing, null or `wanted`.

    Raises:
      WeightsError: it has another value.

    """
    value = hf.get(key)
    if value is not None and value != wanted:
        raise WeightsError(f"{key} = {value!r:.60} is not supported; known: {wanted!r}.")
