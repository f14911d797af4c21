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
import math
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from head_others import optional_rows
from measuring import Data, Row, arguments, compiled, make_data, measure, wanted

from unilogit_jax.losses import unilogit_from_log_odds
from unilogit_jax.ops import head_loss


def main() -> int:
    options = arguments(__doc__ or "")
    data = make_data(options)
    rows = [*jax_rows(data, options), *optional_rows(data, options)]
    gradients = {row.name: row.run() for row in rows}
    measure(rows, options, base="three bare matmuls", off=errors(rows, gradients, data))
    return 0


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


if __name__ == "__main__":
    sys.exit(main())
