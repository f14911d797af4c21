# SPDX-License-Identifier: Apache-2.0
"""A long run, killed again and again: does it end like one that nobody touched, does it leak?

    python scripts/soak.py FOLDER                # a few minutes to half an hour on a CPU
    python scripts/soak.py FOLDER --kills 5 --steps 500

Two runs of the toy with checkpoints, and evaluation on the way. The first is left alone while its
memory, open files and mapped regions are counted. The second gets a signal (SIGKILL, SIGTERM or
SIGINT) at random moments, of starting, compiling, training, evaluating and saving alike, and is
resumed each time. At the end both have to say the same at every update, in every number and every
weight. The figures are one JSON object; the exit code is 1 where something differs or leaks.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from unilogit_jax import workflows

SETTINGS = (
    *("model.scratch.width=64", "eval.gold=false", "eval.max_items=20", "finetune.steps=300"),
    *("unlearn.batch_size=8", "unlearn.retain_ratio=1", "output.checkpoint_every=50"),
    "watch={every: 100, utility_floor: 0.01}",
)
CODES = {signal.SIGKILL: (-9,), signal.SIGTERM: (143, -15), signal.SIGINT: (130,)}
"""How a process leaves; SIGTERM before Python has begun to run the program ends it at once."""
LEAK = {"memory_mb": 50, "files": 10, "regions": 100}
"""How much more than in the run's second quarter there may be in its last: less than what every
checkpoint or evaluation would add if it left something."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="for the two runs; made anew")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=3000, help="updates of unlearning")
    parser.add_argument("--seed", type=int, default=0, help="of signals and moments")
    options = parser.parse_args()
    # A shell lets what it starts in the background ignore Ctrl-C, and so would our processes.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    settings = (*SETTINGS, f"unlearn.steps={options.steps}")
    calm, disturbed = options.folder / "calm", options.folder / "disturbed"
    began = time.monotonic()
    found: dict[str, Any] = {"updates": options.steps, "kills": options.kills}
    found |= left_alone(calm, settings)
    found["seconds_alone"] = round(time.monotonic() - began)
    found |= killed(disturbed, settings, options.kills, random.Random(options.seed))
    found["seconds"] = round(time.monotonic() - began)
    found["same_updates"] = updates(calm) == updates(disturbed)
    found["same_numbers"] = numbers(calm) == numbers(disturbed)
    found["same_weights"] = same(weights(calm), weights(disturbed))
    good = all(found[key] for key in ("same_updates", "same_numbers", "same_weights"))
    good &= not found["leaks"] and not found["wrong_exits"]
    print(json.dumps(found, indent=2))
    return 0 if good else 1


def start(*words: str) -> subprocess.Popen[str]:
    """`unilogit unlearn WORDS`."""
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "unilogit_jax", "unlearn", *words]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=env, **quiet)


def left_alone(run: Path, settings: tuple[str, ...]) -> dict[str, Any]:
    """Runs to the end and counts what the process holds while unlearning goes on."""
    process, held = start("toy", *settings, "--out", str(run)), []
    while process.poll() is None:
        if any(line["stage"] == "unlearn" for line in updates(run)[-1:]):
            held.append(holds(process.pid))
        time.sleep(0.5)
    _, message = process.communicate()
    if process.returncode:
        raise SystemExit(f"the run that was left alone failed: {message}")
    held = [x for x in held if x]
    quarter = len(held) // 4
    middle, last = held[quarter : 2 * quarter], held[-quarter:]
    grown = {
        key: (float(np.median([x[key] for x in middle])), float(np.median([x[key] for x in last])))
        for key in LEAK
    }
    leaks = [key for key, (before, after) in grown.items() if after > LEAK[key] + before]
    return {"second_and_last_quarter": grown, "leaks": leaks}


def holds(pid: int) -> dict[str, float]:
    """What a process has now; nothing if it is gone."""
    place = Path(f"/proc/{pid}")
    try:
        pages = int((place / "statm").read_text().split()[1])
        files = len(list((place / "fd").iterdir()))
        regions = len((place / "maps").read_text().splitlines())
    except (OSError, IndexError):
        return {}
    size = os.sysconf("SC_PAGE_SIZE")
    return {"memory_mb": pages * size / 1e6, "files": files, "regions": regions}


def killed(
    run: Path, settings: tuple[str, ...], kills: int, chance: random.Random
) -> dict[str, Any]:
    """Starts and ends it so many times, then lets it come to its end."""
    wrong, ends = [], []
    for _ in range(kills):
        process = go_on(run, settings)
        number = chance.choice(list(CODES))
        moment = wait(process, run, chance)
        if process.poll() is not None:
            wrong.append(f"it ended by itself {moment}: take more --steps for so many --kills")
            break
        process.send_signal(number)
        _, message = process.communicate(timeout=300)
        ends.append(f"{signal.Signals(number).name} {moment}")
        if process.returncode not in CODES[number] or "Traceback" in message:
            wrong.append(f"{ends[-1]}: code {process.returncode}, {message[-300:]}")
    process = go_on(run, settings)
    _, message = process.communicate()
    if process.returncode:
        wrong.append(f"the last: code {process.returncode}, {message[-300:]}")
    return {"ends": ends, "wrong_exits": wrong}


def go_on(run: Path, settings: tuple[str, ...]) -> subprocess.Popen[str]:
    """Resumes where there is a run already, else begins it."""
    begun = (run / "config.yaml").exists()
    return start("--resume", str(run)) if begun else start("toy", *settings, "--out", str(run))


def wait(process: subprocess.Popen[str], run: Path, chance: random.Random) -> str:
    """For a moment while it starts, or a number of updates; says when that was."""
    before, begun = len(updates(run)), time.monotonic()
    soon = chance.random() < 0.3
    seconds = chance.uniform(0.2, 12.0) if soon else 300.0
    lines = 10**9 if soon else chance.randint(1, 20)
    while process.poll() is None and time.monotonic() - begun < seconds:
        if len(updates(run)) >= before + lines:
            break
        time.sleep(0.05)
    last = updates(run)[-1:]
    place = f"{last[0]['stage']} {last[0]['step']}" if last else "before the first update"
    return f"after {time.monotonic() - begun:.1f} s, at {place}"


def updates(run: Path) -> list[dict[str, Any]]:
    """Every whole line of metrics.jsonl but its speed."""
    path = run / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    found = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [{k: v for k, v in line.items() if k != "tokens_per_second"} for line in found]


def numbers(run: Path) -> Any:
    """The summary, but its times."""
    summary = json.loads((run / "summary.json").read_text())
    return {key: x for key, x in summary.items() if "seconds" not in key}


def weights(run: Path) -> Any:
    """Those that the run is for."""
    return jax.device_get(workflows.load_pretrained(run)[1])


def same(one: Any, other: Any) -> bool:
    """Bit for bit."""
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


if __name__ == "__main__":
    sys.exit(main())
