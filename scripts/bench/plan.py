# SPDX-License-Identifier: Apache-2.0
"""Which models fit on which TPU slices, and how many rows an update may have: compiled, not run.

python scripts/bench/plan.py            all rows of the table in docs/scaling.md: an hour
python scripts/bench/plan.py 1B v5e     those whose model and slice contain these words

Needs libtpu (pip install 'jax[tpu]') and no TPU. For every model, slice and way of training the
largest number of rows of 1024 tokens is searched for Unilogit, and then tried for NPO.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from unilogit_jax.accelerators import GIB, topology_devices
from unilogit_jax.config import Experiment
from unilogit_jax.workflows import plan
from unilogit_jax.workflows.plan import Plan

LENGTH = 1024
ROWS = (1, 2, 4, 8, 16, 32)
"""Rows of a device that are tried; more than 32 x 1024 tokens a device serve no update."""


class Case(NamedTuple):
    """A model on a slice, with the sizes of fsdp and tensor."""

    model: str
    topology: str
    fsdp: int
    tensor: int = 1


CASES = (
    Case("meta-llama/Llama-3.2-1B", "v5e:2x2", 4),
    Case("meta-llama/Llama-3.1-8B", "v5e:4x4", 8, 2),
    Case("meta-llama/Llama-3.1-8B", "v5p:2x2x1", 4),
    Case("meta-llama/Llama-2-7b-hf", "v5e:4x4", 16),
    Case("meta-llama/Llama-3.3-70B", "v5p:4x4x4", 16, 4),
    Case("meta-llama/Llama-3.3-70B", "v5e:16x16", 32, 8),
)
WAYS = {
    "full": {},
    "LoRA": {"lora": {"rank": 16, "targets": ["*"]}},
}


def main() -> int:
    words = sys.argv[1:]
    print(
        "| model | slice | mesh | training | weights + optimizer | rows at most | in all |"
        " NPO at these | exchanged | compiled in |\n" + "|---" * 10 + "|",
        flush=True,
    )
    for case in CASES:
        if all(word.lower() in f"{case.model} {case.topology}".lower() for word in words):
            for way in WAYS:
                print(row(case, way), flush=True)
    return 0


def row(case: Case, way: str) -> str:
    """One line of the table."""
    name, mesh = case.model.rpartition("/")[2], f"fsdp {case.fsdp}, tensor {case.tensor}"
    rows, found = largest(case, way)
    cells = [name, case.topology, mesh, way]
    if found is None:
        least = attempt(case, way, "unilogit", ROWS[0])
        cells += [f"{held(least):.1f} GiB", "none", "does not fit", "-", "-"]
        return f"| {' | '.join([*cells, f'{least.stages[0].seconds:.0f} s'])} |"
    stage = found.stages[0]
    assert stage.memory is not None and found.limit is not None
    npo = attempt(case, way, "npo", rows)
    memory = npo.stages[0].memory
    much = [t for t in stage.traffic if t.bytes > GIB / 20]
    traffic = ", ".join(f"{t.kind} {t.bytes / GIB:.1f}" for t in much)
    cells += [
        f"{held(found):.1f} GiB",
        f"{rows * case.fsdp} ({rows} a device)",
        f"{stage.total / GIB:.1f} of {found.limit / GIB:.2f} GiB",
        f"{memory.total / GIB:.1f} GiB" if npo.fits and memory else "does not fit",
        f"{traffic} GiB",
        f"{stage.seconds:.0f} s",
    ]
    return f"| {' | '.join(cells)} |"


def largest(case: Case, way: str) -> tuple[int, Plan | None]:
    """The largest of the numbers of rows a device for which there is room, by bisection."""
    low, high, best = 0, len(ROWS), None
    while low < high:
        middle = (low + high) // 2
        found = attempt(case, way, "unilogit", ROWS[middle])
        if found.fits:
            low, best = middle + 1, found
        else:
            high = middle
    return ROWS[max(low - 1, 0)], best


def attempt(case: Case, way: str, method: str, rows: int) -> Plan:
    """The plan of an unlearning stage with so many rows a device, half of them to forget."""
    total = rows * case.fsdp
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        file.write_text(8 * (json.dumps({"question": "Who?", "answer": "Nobody."}) + "\n"))
        settings: dict[str, Any] = {
            "name": "plan",
            "model": {
                "weights": f"{case.model}-planned",
                "dtype": "bfloat16",
                "param_dtype": "bfloat16" if way == "LoRA" else "float32",
                "remat": "full",
            },
            "data": {
                "benchmark": "files",
                "forget": str(file),
                "retain": str(file),
                "max_length": LENGTH,
            },
            "method": {"name": method},
            "unlearn": {
                "steps": 1,
                "batch_size": total // 2 or 1,
                "retain_ratio": 1.0 if total > 1 else 0.0,
            },
            "eval": {"batch_size": total},
            "mesh": {"fsdp": case.fsdp, "tensor": case.tensor},
            **WAYS[way],
        }
        found = plan(Experiment.model_validate(settings), devices=topology_devices(case.topology))
    say(case, way, method, rows, found)
    return found


def say(case: Case, way: str, method: str, rows: int, found: Plan) -> None:
    """One line on standard error per program that was compiled."""
    stage = found.stages[0]
    room = stage.refusal or (stage.memory and f"{stage.total / GIB:.2f} GiB")
    what = f"{case.model} {case.topology} {way} {method}: {rows} rows a device"
    print(f"{what}: {room}, {stage.seconds:.0f} s", file=sys.stderr, flush=True)


def held(found: Plan) -> float:
    """GiB of a device between updates."""
    return sum(found.stages[0].held.values()) / GIB


if __name__ == "__main__":
    sys.exit(main())
