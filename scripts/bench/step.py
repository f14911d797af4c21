# SPDX-License-Identifier: Apache-2.0
"""One update beside torch and transformers: CPU seconds and peak memory, the same shapes.

    python scripts/bench/step.py
    python scripts/bench/step.py --updates 5 --only unilogit

A Llama of 35 M parameters, 4 forget and 4 retain rows of 256 tokens, half of them supervised,
float32, AdamW. torch does what the usual framework does: a forward for each set (and for NPO one of
a frozen copy), full logits. Every row is a process of its own on one pinned thread; time is the
median of process CPU seconds per update, memory the peak above what the imports take. Rows take
turns, and all of it is done `--rounds` times.
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
from pathlib import Path
from typing import Any

os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import numpy as np

V, WIDTH, LAYERS, HEADS, MLP = 32000, 384, 6, 6, 1024
ROWS, LENGTH = 4, 256
METHODS = ("unilogit", "unilogit initial", "grad_diff", "npo")
OPTIONS = {"unilogit initial": {"alternatives": "initial"}}
"""Of rows that are not a method by its defaults; torch has no such row."""


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
        if way != "torch" or method not in OPTIONS
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
    print("| method | way | CPU s | torch / this | peak MB | of torch |")
    print("|---|---|---|---|---|---|")
    bases: dict[str, dict[str, float]] = {}
    for method in options.only:
        for name in (n for n in found if n.startswith(f"{method}:")):
            best = {key: min(run[key] for run in found[name]) for key in ("seconds", "megabytes")}
            base = bases.setdefault(method.partition(" ")[0], best)
            print(
                f"| {method} | {name.partition(': ')[2]} | {best['seconds']:.2f} "
                f"| {base['seconds'] / best['seconds']:.2f} | {best['megabytes']:.0f} "
                f"| {best['megabytes'] / base['megabytes']:.2f} |"
            )


def measure(row: str, updates: int) -> dict[str, float]:
    """Seconds per update and peak memory of one row, in this process."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    method, _, way = row.partition(": ")
    if way == "torch":
        prepare: Callable[[], Callable[[], Any]] = torch_update(method)
    else:
        remat = way.partition(", ")[2] or "none"
        prepare = our_update(method, remat)
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


def token_rows() -> tuple[np.ndarray, np.ndarray]:
    """Tokens [8, 256], forget rows first, and the labels of their second halves."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, V, (2 * ROWS, LENGTH)).astype(np.int32)
    labels = np.full_like(tokens, -100)
    labels[:, LENGTH // 2 : -1] = tokens[:, LENGTH // 2 + 1 :]
    return tokens, labels


def our_config() -> Any:
    """The shape of the model, as this library names it."""
    from unilogit_jax.models import DecoderConfig

    return DecoderConfig.scratch(
        vocab_size=V,
        width=WIDTH,
        layers=LAYERS,
        heads=HEADS,
        kv_heads=HEADS,
        mlp_width=MLP,
        max_length=LENGTH,
        tie_embeddings=False,
    )


def our_update(method: str, remat: Any) -> Callable[[], Callable[[], Any]]:
    import jax

    from unilogit_jax import methods, models
    from unilogit_jax.data import Rows, assemble
    from unilogit_jax.sharding import make_mesh, put_batch
    from unilogit_jax.train import init_state, make_optimizer, make_step, reference_for
    from unilogit_jax.types import FORGET, RETAIN

    def prepare() -> Callable[[], Any]:
        mesh = make_mesh(devices=jax.devices()[:1])
        model, params = models.init(our_config(), jax.random.key(0), mesh=mesh)
        model = model.clone(remat=remat)
        chosen = methods.METHODS[method.partition(" ")[0]](**OPTIONS.get(method, {}))
        tokens, labels = token_rows()
        rows = Rows(tokens, labels, np.full(2 * ROWS, LENGTH, np.int32))
        forget = Rows(tokens[:ROWS], labels[:ROWS], rows.lengths[:ROWS])
        found, _ = reference_for(
            chosen, models.apply_fn(model), params, {FORGET: forget}, batch_size=ROWS, mesh=mesh
        )
        known = found.get(FORGET, {})
        known = {k: np.concatenate([x, np.zeros_like(x)]) for k, x in known.items()}
        sets = np.repeat(np.array([FORGET, RETAIN], np.int32), ROWS)
        batch = put_batch(assemble([(rows, np.arange(2 * ROWS), known)], sets), mesh)
        optimizer = make_optimizer(100, learning_rate=1e-5, clip=None)
        axes = models.logical_axes(model)
        state, shardings = init_state(params, optimizer, axes=axes, mesh=mesh)
        del params
        step = make_step(chosen, models.apply_fn(model), optimizer, mesh, shardings=shardings)
        box = [state]

        def update() -> None:
            box[0], metrics = step(box[0], batch)
            jax.block_until_ready((box[0], metrics))

        return update

    return prepare


def torch_update(method: str) -> Callable[[], Callable[[], Any]]:
    import copy

    import torch
    import transformers

    torch.set_num_threads(1)

    def prepare() -> Callable[[], Any]:
        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            vocab_size=V,
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            intermediate_size=MLP,
            max_position_embeddings=LENGTH,
            tie_word_embeddings=False,
            use_cache=False,
        )
        model = transformers.LlamaForCausalLM(config)
        frozen = copy.deepcopy(model).requires_grad_(False) if method == "npo" else None
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
        tokens, labels = (torch.tensor(x, dtype=torch.long) for x in token_rows())

        def nll(net: Any, rows: slice, reduction: str) -> Any:
            logits = net(input_ids=tokens[rows]).logits
            values = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), labels[rows].flatten(), ignore_index=-100, reduction=reduction
            )
            return values if reduction == "mean" else values.view(ROWS, -1).sum(1)

        def unilogit() -> Any:
            logits = model(input_ids=tokens[:ROWS]).logits
            on = labels[:ROWS] != -100
            z, y = logits[on], labels[:ROWS][on][:, None]
            logp = torch.log_softmax(z, dim=-1)
            label = logp.detach().gather(1, y)
            rest = torch.log1p(-label.exp()) - np.log(V - 1)
            target = logp.detach().scatter(1, y, rest).log_softmax(-1)
            return (logp.exp() * (logp - target)).sum(-1).mean()

        def npo() -> Any:
            with torch.no_grad():
                known = -nll(frozen, slice(0, ROWS), "none")
            gain = -nll(model, slice(0, ROWS), "none") - known
            return (2 / 0.1) * torch.nn.functional.softplus(0.1 * gain).mean()

        forget = {
            "unilogit": unilogit,
            "npo": npo,
            "grad_diff": lambda: -nll(model, slice(0, ROWS), "mean"),
        }[method]

        def update() -> None:
            optimizer.zero_grad()
            (forget() + nll(model, slice(ROWS, 2 * ROWS), "mean")).backward()
            optimizer.step()

        return update

    return prepare


if __name__ == "__main__":
    sys.exit(main())
