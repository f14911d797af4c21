# SPDX-License-Identifier: Apache-2.0
"""One update beside torch and transformers: CPU seconds and peak memory, the same shapes.

    python scripts/bench/step.py
    python scripts/bench/step.py --updates 5 --only unilogit

A Llama of 35 M parameters, 4 forget and 4 retain rows of 256 tokens, half of them supervised,
float32, AdamW. torch does what the usual framework does: a forward for each set (for NPO, UnDIAL
and RMU also one of a frozen copy), full logits. Every row is a process of its own on one pinned
thread; time is the median of process CPU seconds per update, memory the peak above what the imports
take. Rows take turns, and all of it is done `--rounds` times.
"""

import argparse
import ctypes
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import one_thread  # noqa: F401

METHODS = ("unilogit", "unilogit initial", "grad_diff", "npo", "undial", "rmu")
WITHOUT_TORCH = ("unilogit initial",)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--updates", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=METHODS, choices=METHODS)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(options.row, options.updates)))
        return 0
    ways = ("torch", "ours", "ours, dots", "ours, full")
    names = [
        f"{method}: {way}"
        for method in options.only
        for way in ways
        if way != "torch" or method not in WITHOUT_TORCH
    ]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            command = [sys.executable, __file__, "--row", name, "--updates", str(options.updates)]
            out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            found[name].append(json.loads(out.splitlines()[-1]))
    report(found, options)
    return 0


def report(found: dict[str, list[dict[str, float]]], options: argparse.Namespace) -> None:
    print(f"\nmedian of {options.updates} updates, the lower of {options.rounds} rounds\n")
    print("| method | way | CPU s | torch / this | this / unilogit | peak MB | of torch |")
    print("|---|---|---|---|---|---|---|")
    best = {
        name: {key: min(run[key] for run in runs) for key in ("seconds", "megabytes")}
        for name, runs in found.items()
    }
    nothing = dict.fromkeys(("seconds", "megabytes"), float("nan"))
    for name, row in best.items():
        method, _, way = name.partition(": ")
        torch = best.get(f"{method.partition(' ')[0]}: torch", nothing)
        beside = best.get(f"unilogit: {way}", nothing)["seconds"]
        print(
            f"| {method} | {way} | {row['seconds']:.2f} | {torch['seconds'] / row['seconds']:.2f} "
            f"| {row['seconds'] / beside:.2f} | {row['megabytes']:.0f} "
            f"| {row['megabytes'] / torch['megabytes']:.2f} |"
        )


def measure(row: str, updates: int) -> dict[str, float]:
    """Seconds per update and peak memory of one row, in this process."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    method, _, way = row.partition(": ")
    # Imported here: a process takes the memory of one of the two.
    if way == "torch":
        import step_torch

        prepare: Callable[[], Callable[[], None]] = partial(step_torch.prepare, method)
    else:
        import step_ours

        prepare = partial(step_ours.prepare, method, way.partition(", ")[2] or "none")
    start = memory("VmRSS")
    update = prepare()
    update()
    # The peak of making weights and compiling is not that of training: give back what is free.
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    times = []
    for _ in range(updates):
        began = time.process_time()
        update()
        times.append(time.process_time() - began)
    return {"seconds": statistics.median(times), "megabytes": memory("VmHWM") - start}


def memory(key: str) -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    line = next(x for x in status.read_text().splitlines() if x.startswith(key))
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    sys.exit(main())
