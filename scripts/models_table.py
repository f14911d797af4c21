# SPDX-License-Identifier: Apache-2.0
"""Writes docs/models-table.md: parity with transformers and memory of every family.

python scripts/models_table.py        needs a checkout with the test extra; a minute on two cores
"""

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np

from unilogit_jax import models
from unilogit_jax.models.published import published, published_config
from unilogit_jax.sharding import make_mesh
from unilogit_jax.types import ModelOutput

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests" / "models"
sys.path.insert(0, str(TESTS))
GB = 1e9
TRAINING_BYTES = 16
"""Per parameter: float32 weights, gradients, two moments."""


def main() -> int:
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_default_matmul_precision", "highest")
    parity_cases = importlib.import_module("parity_cases")
    worst: dict[str, list[float]] = {}
    for name, case in parity_cases.CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            theirs = parity_cases.make(case, Path(folder))
            family = theirs.config.model_type
            pair = [
                difference(theirs, folder, mesh) for mesh in (None, make_mesh(fsdp=4, tensor=2))
            ]
        worst[family] = [max(a, b) for a, b in zip(worst.get(family, [0, 0]), pair, strict=True)]
        print(f"{name:50} {pair[0]:.1e} {pair[1]:.1e}", flush=True)
    text = parity_table(worst) + "\n" + memory_table()
    (ROOT / "docs" / "models-table.md").write_text(text)
    print(text)
    return 0


def difference(theirs: Any, folder: str, mesh: Any) -> float:
    """Largest difference of the logits on rows of random tokens."""
    import torch

    tokens = np.random.default_rng(1).integers(0, 101, (8, 32))
    with torch.no_grad():
        wanted = theirs(torch.tensor(tokens)).logits.numpy()
    model, params = models.load(folder, mesh=mesh)
    forward = jax.jit(lambda params: cast(ModelOutput, model.apply({"params": params}, tokens)))
    logits = forward(params).logits()
    return float(np.abs(np.asarray(logits) - wanted).max())


def parity_table(worst: dict[str, list[float]]) -> str:
    """One row per family."""
    rows = [f"| `{family}` | {one:.1e} | {eight:.1e} |" for family, (one, eight) in worst.items()]
    head = "| `model_type` | one device | eight devices |\n|---|---|---|"
    return "\n".join([head, *rows, ""])


def memory_table() -> str:
    """One row per published model."""
    head = (
        "| model | parameters | bfloat16 weights | training, one device | eight devices, each |\n"
        "|---|---|---|---|---|"
    )
    rows = []
    for name in published():
        config = published_config(name)
        leaves = jax.tree.leaves(models.param_shapes(models.Decoder(config)))
        count = sum(leaf.size for leaf in leaves)
        half, whole = 2 * count / GB, TRAINING_BYTES * count / GB
        cells = (name, f"{count:,}", f"{half:.1f} GB", f"{whole:.0f} GB", f"{whole / 8:.1f} GB")
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([head, *rows, ""])


if __name__ == "__main__":
    sys.exit(main())
