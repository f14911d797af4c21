# SPDX-License-Identifier: Apache-2.0
"""Runs within the folder of several: done ones are left alone, interrupted ones gone on with."""

from collections.abc import Callable
from typing import Any

from unilogit_jax.config import Loaded
from unilogit_jax.hosts import from_first
from unilogit_jax.paths import AnyPath
from unilogit_jax.run import Console, RunFolder


def run_at(
    start: Callable[..., RunFolder],
    place: AnyPath,
    loaded: Loaded,
    console: Console,
    **options: Any,
) -> RunFolder:
    """A finished run: the one at this place, gone on with if need be, or a new one there.

    Args:
      start: `unlearn` or `finetune`.
      place: its folder.
      loaded: its experiment.
      console: of the folder around it.
      **options: handed on to `start`.

    """

    def status() -> str:
        return RunFolder.open(place).status if (place / "config.yaml").is_file() else ""

    there = from_first(status)
    if there == "done":
        return RunFolder.open(place)
    how: dict[str, Any] = {"resume": RunFolder.open(place)} if there else {"out": place}
    return start(loaded.experiment, console=console.anew(), notes=loaded.notes, **how, **options)
