# SPDX-License-Identifier: Apache-2.0
"""One update as torch and transformers make it with full logits, for `step.py`."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from step_shape import LAYER, ROWS, WIDTH, V, token_rows, torch_config
from torch.nn import functional

FORGET, RETAIN = slice(0, ROWS), slice(ROWS, 2 * ROWS)
"""Rows of the batch."""


class Setting(NamedTuple):
    """A model, a frozen copy of it where a method compares with one, and the batch."""

    model: Any
    frozen: Any
    tokens: torch.Tensor
    labels: torch.Tensor

    def logits(self, net: Any, rows: slice) -> torch.Tensor:
        """All of them, of every position."""
        return net(input_ids=self.tokens[rows]).logits

    def nll(self, net: Any, rows: slice, reduction: str) -> torch.Tensor:
        """The mean over tokens; for "none" the sum of each answer."""
        values = functional.cross_entropy(
            self.logits(net, rows).flatten(0, 1),
            self.labels[rows].flatten(),
            ignore_index=-100,
            reduction=reduction,
        )
        return values if reduction == "mean" else values.view(ROWS, -1).sum(1)

    def supervised(self, rows: slice) -> torch.Tensor:
        """Where there is a label."""
        return self.labels[rows] != -100

    def stream(self, net: Any, rows: slice) -> torch.Tensor:
        """Hidden states of supervised tokens behind RMU's layer."""
        found = net(input_ids=self.tokens[rows], output_hidden_states=True).hidden_states
        return found[LAYER + 1][self.supervised(rows)]


def unilogit(it: Setting) -> torch.Tensor:
    on = it.supervised(FORGET)
    z, y = it.logits(it.model, FORGET)[on], it.labels[FORGET][on][:, None]
    logp = torch.log_softmax(z, dim=-1)
    label = logp.detach().gather(1, y)
    rest = torch.log1p(-label.exp()) - np.log(V - 1)
    target = logp.detach().scatter(1, y, rest).log_softmax(-1)
    return (logp.exp() * (logp - target)).sum(-1).mean()


def grad_diff(it: Setting) -> torch.Tensor:
    return -it.nll(it.model, FORGET, "mean")


def npo(it: Setting) -> torch.Tensor:
    with torch.no_grad():
        known = -it.nll(it.frozen, FORGET, "none")
    gain = -it.nll(it.model, FORGET, "none") - known
    return (2 / 0.1) * functional.softplus(0.1 * gain).mean()


def undial(it: Setting) -> torch.Tensor:
    on = it.supervised(FORGET)
    with torch.no_grad():
        teacher = it.logits(it.frozen, FORGET)[on]
        lowered = teacher.scatter_add(
            1, it.labels[FORGET][on][:, None], torch.full((int(on.sum()), 1), -10.0)
        )
    return functional.cross_entropy(it.logits(it.model, FORGET)[on], lowered.softmax(-1))


def rmu(it: Setting) -> torch.Tensor:
    direction = torch.ones(WIDTH) / WIDTH**0.5
    with torch.no_grad():
        held = it.stream(it.frozen, RETAIN)
    pushed = (it.stream(it.model, FORGET) - 6.5 * direction).square().mean()
    return pushed + (it.stream(it.model, RETAIN) - held).square().mean()


LOSSES = {"unilogit": unilogit, "grad_diff": grad_diff, "npo": npo, "undial": undial, "rmu": rmu}
"""Of the forget rows; RMU's is of both sets."""
WITH_FROZEN = ("npo", "undial", "rmu")


def prepare(method: str) -> Callable[[], None]:
    """Makes model, batch and optimizer, and returns the update."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(torch_config())
    frozen: Any = None
    if method in WITH_FROZEN:
        frozen = copy.deepcopy(model).requires_grad_(False)
    if method == "rmu":
        model.requires_grad_(False)
        blocks: Any = model.model.layers[LAYER - 1 : LAYER + 1]
        for block in blocks:
            block.mlp.down_proj.weight.requires_grad_(True)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    tokens, labels = (torch.tensor(x, dtype=torch.long) for x in token_rows())
    it = Setting(model, frozen, tokens, labels)

    def update() -> None:
        optimizer.zero_grad()
        retain = 0.0 if method == "rmu" else it.nll(model, RETAIN, "mean")
        (LOSSES[method](it) + retain).backward()
        optimizer.step()

    return update
