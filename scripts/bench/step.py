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
from pathlib import Path
from typing import Any

os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import numpy as np

V, WIDTH, LAYERS, HEADS, MLP = 32000, 384, 6, 6, 1024
ROWS, LENGTH = 4, 256
METHODS = ("unilogit", "unilogit initial", "grad_diff", "npo", "undial", "rmu")
LAYER = 1
"""RMU's, of the six: it trains the down projections of this layer and the one below."""
OPTIONS = {"unilogit initial": {"alternatives": "initial"}, "rmu": {"layer": LAYER}}
"""Of rows that are not a method by its defaults."""
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
    for name, row in best.items():
        method, _, way = name.partition(": ")
        torch = best[f"{method.partition(' ')[0]}: torch"]
        beside = best.get(f"unilogit: {way}", {}).get("seconds", float("nan"))
        print(
            f"| {method} | {way} | {row['seconds']:.2f} | {torch['seconds'] / row['seconds']:.2f} "
            f"| {row['seconds'] / beside:.2f} | {row['megabytes']:.0f} "
            f"| {row['megabytes'] / torch['megabytes']:.2f} |"
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

    from unilogit_jax import methods, models, train
    from unilogit_jax.data import Rows, assemble
    from unilogit_jax.sharding import make_mesh, put_batch
    from unilogit_jax.types import FORGET, RETAIN

    def prepare() -> Callable[[], Any]:
        mesh = make_mesh(devices=jax.devices()[:1])
        model, params = models.init(our_config(), jax.random.key(0), mesh=mesh)
        chosen = methods.METHODS[method.partition(" ")[0]](**OPTIONS.get(method, {}))
        axes, layer = models.logical_axes(model), chosen.needs.layer
        trainable, method_state = train.EVERYTHING, ()
        if layer is not None:
            names = [f"layers.{LAYER - 1}-{LAYER}.mlp.down_proj"]
            trainable = train.choose_trainable(models.param_shapes(model), names)
            method_state = chosen.start(jax.random.key(1), width=WIDTH)
            model = models.to_layer(model, layer)
        apply = models.apply_fn(model.clone(remat=remat, trained=trainable.span))
        tokens, labels = token_rows()
        lengths = np.full(ROWS, LENGTH, np.int32)
        rows = {
            which: Rows(tokens[part], labels[part], lengths)
            for which, part in ((FORGET, slice(0, ROWS)), (RETAIN, slice(ROWS, None)))
        }
        found, ref_head = train.reference_for(
            chosen, apply, params, rows, batch_size=ROWS, mesh=mesh
        )
        known = {which: found.get(which, {}) for which in rows}
        shapes = {name: x[:1] * 0 for own in known.values() for name, x in own.items()}
        for own in known.values():
            for name, blank in shapes.items():
                own.setdefault(name, np.repeat(blank, ROWS, axis=0))
        sets = np.repeat(np.array([FORGET, RETAIN], np.int32), ROWS)
        every = np.arange(ROWS)
        parts = [(own, every, known[which]) for which, own in rows.items()]
        batch = put_batch(assemble(parts, sets), mesh)
        optimizer = train.make_optimizer(100, learning_rate=1e-5, clip=None)
        state, shardings = train.init_state(
            params,
            optimizer,
            axes=axes,
            mesh=mesh,
            ref_head=ref_head,
            trainable=trainable,
            method_state=method_state,
        )
        del params
        step = train.make_step(
            chosen, apply, optimizer, mesh, shardings=shardings, trainable=trainable
        )
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
        live = method in ("npo", "undial", "rmu")
        frozen: Any = copy.deepcopy(model).requires_grad_(False) if live else None
        if method == "rmu":
            model.requires_grad_(False)
            blocks: Any = model.model.layers[LAYER - 1 : LAYER + 1]
            for block in blocks:
                block.mlp.down_proj.weight.requires_grad_(True)
        moved = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(moved, lr=1e-5)
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

        def undial() -> Any:
            on = labels[:ROWS] != -100
            with torch.no_grad():
                teacher = frozen(input_ids=tokens[:ROWS]).logits[on]
                lowered = teacher.scatter_add(
                    1, labels[:ROWS][on][:, None], torch.full((int(on.sum()), 1), -10.0)
                )
            logits = model(input_ids=tokens[:ROWS]).logits[on]
            return torch.nn.functional.cross_entropy(logits, lowered.softmax(-1))

        def stream(net: Any, rows: slice) -> Any:
            found = net(input_ids=tokens[rows], output_hidden_states=True).hidden_states
            return found[LAYER + 1][labels[rows] != -100]

        def rmu() -> Any:
            direction = torch.ones(WIDTH) / WIDTH**0.5
            kept = slice(ROWS, 2 * ROWS)
            with torch.no_grad():
                held = stream(frozen, kept)
            pushed = (stream(model, slice(0, ROWS)) - 6.5 * direction).square().mean()
            return pushed + (stream(model, kept) - held).square().mean()

        forget = {
            "unilogit": unilogit,
            "npo": npo,
            "undial": undial,
            "rmu": rmu,
            "grad_diff": lambda: -nll(model, slice(0, ROWS), "mean"),
        }[method]

        def update() -> None:
            optimizer.zero_grad()
            retain = 0.0 if method == "rmu" else nll(model, slice(ROWS, 2 * ROWS), "mean")
            (forget() + retain).backward()
            optimizer.step()

        return update

    return prepare


if __name__ == "__main__":
    sys.exit(main())
