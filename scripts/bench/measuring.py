# SPDX-License-Identifier: Apache-2.0
"""What `head.py` and `divergence.py` share: data, compiled rows, turns on the clock, the table."""

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import one_thread  # noqa: F401


class Row(NamedTuple):
    """One way to do it."""

    name: str
    run: Callable[[], Any]
    """Value and gradients, ready."""
    temporary: float | None
    """MB, where the compiler knows."""
    comparable: bool = True
    """The same loss with the same tokens: its gradient can be compared."""


class Data(NamedTuple):
    """One batch; labels of half the tokens are likely ones."""

    hidden: Any
    kernel: Any
    labels: Any
    weights: Any
    half: Any
    """Weights of which half are zero."""


def arguments(about: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=about.partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--vocab", type=int, default=32768)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="rows whose name contains one of these words")
    return parser.parse_args()


def wanted(name: str, options: argparse.Namespace) -> bool:
    return not options.only or any(word in name for word in options.only)


def make_data(options: argparse.Namespace) -> Data:
    rng = np.random.default_rng(0)
    n, d, v = options.tokens, options.width, options.vocab
    hidden = rng.standard_normal((n, d), np.float32)
    kernel = rng.standard_normal((v, d), np.float32) / math.sqrt(d)
    labels = rng.integers(0, v, n).astype(np.int32)
    hidden[::2] += 10 * kernel[labels[::2]]
    weights = np.full(n, 1 / n, np.float32)
    half = np.where(np.arange(n) % 4 < 2, 2 / n, 0).astype(np.float32)
    dtype = jnp.dtype(options.dtype)
    return Data(
        jnp.asarray(hidden, dtype),
        jnp.asarray(kernel, dtype),
        jnp.asarray(labels),
        jnp.asarray(weights),
        jnp.asarray(half),
    )


def compiled(
    name: str, f: Callable, data: Data, *, grad: Any = (0, 1), comparable: bool = True
) -> Row:
    """Compiles a loss with its gradients (or the function itself) for the data."""
    step = f if grad is None else jax.value_and_grad(f, argnums=grad)
    args = data[:3]
    made = jax.jit(step).lower(*args).compile()
    analysis = made.memory_analysis()
    temporary = None if analysis is None else analysis.temp_size_in_bytes / 1e6
    return Row(
        name,
        lambda: jax.block_until_ready(made(*args)),
        temporary,
        comparable and grad is not None,
    )


def measure(
    rows: list[Row], options: argparse.Namespace, *, base: str, off: dict[str, float] | None = None
) -> None:
    """Runs the rows in turn and prints medians, as ratios to the row `base`."""
    on_cpu = jax.default_backend() == "cpu"
    if on_cpu:
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    clock = time.process_time if on_cpu else time.perf_counter
    times: dict[str, list[float]] = {row.name: [] for row in rows}
    for row in rows:
        row.run()
    for _ in range(options.runs):
        for row in rows:
            began = clock()
            row.run()
            times[row.name].append(clock() - began)
    report(rows, times, off or {}, options, base)


def report(
    rows: list[Row],
    times: dict[str, list[float]],
    off: dict[str, float],
    options: argparse.Namespace,
    base: str,
) -> None:
    middle = {name: statistics.median(values) for name, values in times.items() if values}
    least = middle.get(base)
    device = jax.devices()[0].device_kind
    print(
        f"\nN {options.tokens}, D {options.width}, V {options.vocab}, {options.dtype}, {device}, "
        f"median of {options.runs}\n"
    )
    short = base.replace("bare ", "")
    print(f"| way | temporary MB | seconds | x {short} | worst gradient error |")
    print("|---|---|---|---|---|")
    for row in rows:
        memory = "-" if row.temporary is None else f"{row.temporary:.0f}"
        ratio = "-" if least is None else f"{middle[row.name] / least:.2f}"
        error = f"{off[row.name]:.0e}" if row.name in off else "-"
        print(f"| {row.name} | {memory} | {middle[row.name]:.2f} | {ratio} | {error} |")
