# SPDX-License-Identifier: Apache-2.0
"""The fused head beside full logits and other libraries: memory, time, error, in one process.

    python scripts/bench/head.py                     N 2048, D 1024, V 32768, on one CPU thread
    python scripts/bench/head.py --vocab 128256 --runs 3
    python scripts/bench/head.py --tokens 8192 --width 4096 --dtype bfloat16      on an accelerator

Every row is forward and gradients of hidden states and head for the paper's loss, unless it says
otherwise. Time is process CPU seconds of one thread on a CPU, wall time elsewhere, the median of
interleaved runs. Memory is the compiler's count of temporary bytes, gradients not included; torch
has no such count. optax, torch and tokamax rows need those libraries.
"""

import argparse
import importlib
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import jax
import jax.numpy as jnp
import numpy as np

from unilogit_jax.losses import unilogit_from_log_odds
from unilogit_jax.ops import head_loss


class Row(NamedTuple):
    """One way to do it."""

    name: str
    run: Callable[[], Any]
    """Value and gradients, ready."""
    temporary: float | None
    """MB, where the compiler knows."""
    comparable: bool = True
    """The same loss with the same tokens: its gradient can be compared."""


def main() -> int:
    options = arguments(__doc__ or "")
    data = make_data(options)
    rows = [*jax_rows(data, options), *optional_rows(data, options)]
    gradients = {row.name: row.run() for row in rows}
    measure(rows, options, base="three bare matmuls", off=errors(rows, gradients, data))
    return 0


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


def arguments(about: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=about.partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--vocab", type=int, default=32768)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="rows whose name contains one of these words")
    return parser.parse_args()


class Data(NamedTuple):
    """One batch; labels of half the tokens are likely ones."""

    hidden: Any
    kernel: Any
    labels: Any
    weights: Any
    half: Any
    """Weights of which half are zero."""


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


def phi_of(vocab: int) -> Callable:
    def phi(m: Any, aux: Any) -> Any:
        del aux
        loss = jax.tree_util.Partial(unilogit_from_log_odds, vocab_size=vocab)
        return jax.jvp(loss, (m,), (jnp.ones_like(m),))

    return phi


def jax_rows(data: Data, options: argparse.Namespace) -> list[Row]:
    v, phi = options.vocab, phi_of(options.vocab)

    def ours(weights: Any, **ways: Any) -> Callable:
        return lambda h, w, y: head_loss(h, w, y, weights, phi, **ways)[0]

    def logits(h: Any, w: Any) -> Any:
        return jnp.einsum("nd,vd->nv", h, w, preferred_element_type=jnp.float32)

    def definition(h: Any, w: Any, y: Any) -> Any:
        z = logits(h, w)
        logp = jax.nn.log_softmax(z)
        at = jnp.arange(v)[None, :] == y[:, None]
        rest = jax.nn.logsumexp(jnp.where(at, -jnp.inf, z), axis=1, keepdims=True)
        target = jax.lax.stop_gradient(jnp.where(at, rest - math.log(v - 1), z))
        kl = jnp.sum(jnp.exp(logp) * (logp - jax.nn.log_softmax(target)), axis=1)
        return jnp.sum(kl * data.weights)

    def matmuls(h: Any, w: Any, y: Any) -> Any:
        z = logits(h, w).astype(h.dtype)
        return jnp.einsum("nv,vd->nd", z, w), jnp.einsum("nv,nd->vd", z, h)

    def checkpointed(h: Any, w: Any, y: Any) -> Any:
        @jax.checkpoint
        def chunk(total: Any, xs: Any) -> Any:
            hc, yc, wc = xs
            z = logits(hc, w)
            at = jnp.arange(v)[None, :] == yc[:, None]
            label = jnp.sum(jnp.where(at, z, 0), axis=1)
            m = label - jax.nn.logsumexp(jnp.where(at, -jnp.inf, z), axis=1)
            return total + jnp.sum(wc * unilogit_from_log_odds(m, vocab_size=v)), None

        size = min(512, len(h))
        cut = [x.reshape(-1, size, *x.shape[1:]) for x in (h, y, data.weights)]
        return jax.lax.scan(chunk, jnp.float32(0), tuple(cut))[0]

    rows = [
        compiled("three bare matmuls", matmuls, data, grad=None),
        compiled("default", ours(data.weights), data),
        compiled("low memory", ours(data.weights, keep=False), data),
        compiled("default, head frozen", ours(data.weights), data, grad=0, comparable=False),
        compiled("default, half masked", ours(data.half), data, comparable=False),
        compiled("half masked, head frozen", ours(data.half), data, grad=0, comparable=False),
        compiled("checkpointed scan over tokens", checkpointed, data),
        compiled("definition on full logits", definition, data),
    ]
    return [row for row in rows if wanted(row.name, options)]


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


def optional_rows(data: Data, options: argparse.Namespace) -> list[Row]:
    rows = []
    for make in (optax_row, tokamax_row, torch_rows):
        try:
            rows += make(data, options)
        except ImportError as error:
            print(f"left out: {error}", file=sys.stderr)
    return rows


def optax_row(data: Data, options: argparse.Namespace) -> list[Row]:
    import optax

    if not wanted("optax cross entropy", options):
        return []

    def loss(h: Any, w: Any, y: Any) -> Any:
        z = jnp.einsum("nd,vd->nv", h, w, preferred_element_type=jnp.float32)
        values = optax.softmax_cross_entropy_with_integer_labels(z, y)
        return jnp.sum(values * data.weights)

    return [compiled("optax cross entropy", loss, data, comparable=False)]


def tokamax_row(data: Data, options: argparse.Namespace) -> list[Row]:
    tokamax = importlib.import_module("tokamax")
    sys.argv = sys.argv[:1]  # it reads the command line too, and knows none of our options

    def loss(h: Any, w: Any, y: Any, way: str) -> Any:
        return tokamax.linear_softmax_cross_entropy_loss(
            h, y, w.T, reduction="mean", implementation=way
        )

    rows = []
    for way in ("chunked_xla", "xla"):
        name = f"tokamax cross entropy, {way}"
        if wanted(name, options):
            try:
                rows.append(compiled(name, partial(loss, way=way), data, comparable=False))
            except ValueError as error:  # versions up to 0.0.12 know no chunks
                print(f"left out: {name}: {error}", file=sys.stderr)
    return rows


def torch_rows(data: Data, options: argparse.Namespace) -> list[Row]:
    import torch

    torch.set_num_threads(1)
    h = torch.tensor(np.asarray(data.hidden, np.float32), requires_grad=True)
    w = torch.tensor(np.asarray(data.kernel, np.float32), requires_grad=True)
    y = torch.tensor(np.asarray(data.labels, np.int64))

    def naive() -> Any:
        h.grad = w.grad = None
        logp = torch.log_softmax(h @ w.T, dim=-1)
        label = logp.detach().gather(1, y[:, None])
        rest = torch.log1p(-label.exp().clamp(max=1 - 1e-7)) - math.log(options.vocab - 1)
        target = logp.detach().scatter(1, y[:, None], rest).log_softmax(-1)
        (logp.exp() * (logp - target)).sum(-1).mean().backward()
        return h.grad, w.grad

    def chunked(size: int = 512) -> Any:
        """Gradients made in the forward, token chunk by token chunk, logits overwritten."""
        into_h, into_w = torch.empty_like(h), torch.zeros_like(w)
        with torch.no_grad():
            for start in range(0, len(h), size):
                part, label = h[start : start + size], y[start : start + size, None]
                z = part @ w.T
                lse = torch.logsumexp(z, dim=1, keepdim=True)
                logp = z.gather(1, label) - lse
                c = logp.exp() * (logp - torch.log1p(-logp.exp()) + math.log(options.vocab - 1))
                z.sub_(lse).exp_().mul_(-c)
                z.scatter_add_(1, label, c)
                z.div_(len(h))
                into_h[start : start + size] = z @ w
                into_w.addmm_(z.T, part)
        return into_h, into_w

    rows = [Row("torch, definition", naive, None), Row("torch, token chunks", chunked, None)]
    return [row for row in rows if wanted(row.name, options)]


def wanted(name: str, options: argparse.Namespace) -> bool:
    return not options.only or any(word in name for word in options.only)


def errors(rows: list[Row], gradients: dict[str, Any], data: Data) -> dict[str, float]:
    """Worst relative error of the hidden states' gradient at sixteen tokens, against float64."""
    n, v = data.hidden.shape[0], data.kernel.shape[0]
    picked = np.arange(0, n, max(1, n // 16))
    h, w = (np.asarray(x, np.float64) for x in (data.hidden[picked], data.kernel))
    y, rows_ = np.asarray(data.labels)[picked], np.arange(len(picked))
    z = h @ w.T
    others = z.copy()
    others[rows_, y] = -np.inf
    top = others.max(axis=1, keepdims=True)
    s = top[:, 0] + np.log(np.exp(others - top).sum(axis=1))
    m = z[rows_, y] - s
    slope = (m + np.log(v - 1)) / ((1 + np.exp(m)) * (1 + np.exp(-m))) / n
    dz = -slope[:, None] * np.exp(others - s[:, None])
    dz[rows_, y] = slope
    exact = dz @ w
    found = {}
    for row in rows:
        if row.comparable:
            result = gradients[row.name]
            into_hidden = result[1][0] if isinstance(result[1], tuple) else result[0]
            got = np.asarray(into_hidden, np.float64)[picked]
            off = np.linalg.norm(got - exact, axis=1) / np.linalg.norm(exact, axis=1)
            found[row.name] = float(off.max())
    return found


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


if __name__ == "__main__":
    sys.exit(main())
