# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: where the rows to forget and to keep come from, in one table."""

from collections.abc import Callable

from unilogit_jax.benchmarks.files import load_files
from unilogit_jax.benchmarks.muse import load_muse
from unilogit_jax.benchmarks.rwku import load_rwku, people_of
from unilogit_jax.benchmarks.shop import load_shop
from unilogit_jax.benchmarks.tofu import load_tofu
from unilogit_jax.benchmarks.toy import load_toy
from unilogit_jax.benchmarks.wmdp import load_wmdp
from unilogit_jax.data import Source, Task

__all__ = ["BENCHMARKS", "people_of"]

BENCHMARKS: dict[str, Callable[[Source], Task]] = {
    "toy": load_toy,
    "shop": load_shop,
    "tofu": load_tofu,
    "muse": load_muse,
    "rwku": load_rwku,
    "wmdp": load_wmdp,
    "files": load_files,
}
"""Value of `data.benchmark` -> loader."""
