# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: where the rows to forget and to keep come from, in one table."""

from collections.abc import Callable

from unilogit_jax.benchmarks.files import load_files
from unilogit_jax.benchmarks.muse import load_muse
from unilogit_jax.benchmarks.tofu import load_tofu
from unilogit_jax.benchmarks.toy import load_toy
from unilogit_jax.data import Source, Task

BENCHMARKS: dict[str, Callable[[Source], Task]] = {
    "toy": load_toy,
    "tofu": load_tofu,
    "muse": load_muse,
    "files": load_files,
}
"""Value of `data.benchmark` -> loader."""
