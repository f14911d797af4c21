# SPDX-License-Identifier: Apache-2.0
"""Tokens per second of greedy generation, ours beside transformers', on one core of a CPU.

    python scripts/bench/generate.py [--rounds 7] [--cache-dtype bfloat16]

Both sides get the same weights (a random Llama of 35 million parameters, written by us and read by
transformers), the same prompts, one thread and the same core, and run in turns, so that what else
the machine does slows both. The first run of each, which compiles, does not count.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

Tokens = list[list[int]]


class Run(NamedTuple):
    """One timed run."""

    wall: float
    cpu: float


def main() -> int:
    parser = argparse.ArgumentParser(description="Generation: ours beside transformers'.")
    parser.add_argument("--rounds", type=int, default=7, help="timed runs of each side")
    parser.add_argument("--batch", type=int, default=16, help="prompts")
    parser.add_argument("--prompt", type=int, default=32, help="tokens of each prompt")
    parser.add_argument("--new", type=int, default=128, help="new tokens of each answer")
    parser.add_argument("--cache-dtype", choices=("float32", "bfloat16"), help="of our cache")
    options = parser.parse_args()
    hold_to_one_core()
    sides = make_sides(options)
    first = {name: side() for name, side in sides.items()}
    alike = count_alike(*first.values())
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, side in sides.items():
            runs[name].append(timed(side))
    tokens = options.batch * options.new
    for name, taken in runs.items():
        wall = statistics.median(run.wall for run in taken)
        cpu = statistics.median(run.cpu for run in taken)
        print(f"{name:13} {tokens / wall:8.0f} tokens/s   {wall:6.3f} s wall   {cpu:6.3f} s CPU")
    pairs = list(zip(runs["ours"], runs["transformers"], strict=True))
    print(f"ratio, wall  {spread([theirs.wall / ours.wall for ours, theirs in pairs])}")
    print(f"ratio, CPU   {spread([theirs.cpu / ours.cpu for ours, theirs in pairs])}")
    print(f"same tokens  {alike} of {tokens}")
    return 0 if alike == tokens or options.cache_dtype == "bfloat16" else 1


def hold_to_one_core() -> None:
    """One thread on one core, for all libraries; before any of them is imported."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ["XLA_FLAGS"] = (
        "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1 "
        + os.environ.get("XLA_FLAGS", "")
    )
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["JAX_PLATFORMS"] = "cpu"


def make_sides(options: argparse.Namespace) -> dict[str, Callable[[], Tokens]]:
    """What is to be timed: name -> function that generates."""
    import jax
    import numpy as np
    import torch

    from unilogit_jax import models

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers

    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    config = models.DecoderConfig.scratch(
        vocab_size=32000,
        width=384,
        layers=6,
        heads=6,
        mlp_width=1024,
        tie_embeddings=False,
        max_length=options.prompt + options.new,
    )
    model, params = models.init(config, jax.random.key(0))
    with tempfile.TemporaryDirectory() as folder:
        models.save(folder, model, params)
        theirs: Any = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    theirs = theirs.eval()
    shape = (options.batch, options.prompt)
    prompts = np.random.default_rng(0).integers(3, config.vocab_size, shape)
    ids = torch.tensor(prompts)
    size = sum(x.size for x in jax.tree.leaves(params))
    print(f"{size / 1e6:.1f} M parameters, batch {shape[0]}, prompt {shape[1]}, new {options.new}")

    def ours() -> Tokens:
        return models.generate(
            model,
            params,
            prompts.tolist(),
            max_new_tokens=options.new,
            stop_ids=[],
            batch_size=options.batch,
            cache_dtype=options.cache_dtype,
        )

    def transformers_() -> Tokens:
        with torch.inference_mode():
            made = theirs.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=options.new,
                do_sample=False,
                use_cache=True,
                eos_token_id=None,
                pad_token_id=0,
            )
        return made[:, options.prompt :].tolist()

    return {"ours": ours, "transformers": transformers_}


def timed(side: Callable[[], Tokens]) -> Run:
    wall, cpu = time.perf_counter(), time.process_time()
    side()
    return Run(time.perf_counter() - wall, time.process_time() - cpu)


def count_alike(one: Tokens, other: Tokens) -> int:
    rows = zip(one, other, strict=True)
    return sum(a == b for row in rows for a, b in zip(*row, strict=True))


def spread(ratios: list[float]) -> str:
    low, high = min(ratios), max(ratios)
    return f"{statistics.median(ratios):.2f} (median of {len(ratios)}; {low:.2f} to {high:.2f})"


if __name__ == "__main__":
    sys.exit(main())
