# SPDX-License-Identifier: Apache-2.0
"""Rows of `head.py` that other libraries make, where they are installed: optax, tokamax, torch."""

import argparse
import importlib
import math
import sys
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from measuring import Data, Row, compiled, wanted


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
