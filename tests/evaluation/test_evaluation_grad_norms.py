# SPDX-License-Identifier: Apache-2.0
"""Norms of single examples' gradients against torch, which keeps every tensor apart."""

import jax
import numpy as np
import pytest

from unilogit_jax import models
from unilogit_jax.data import Rows
from unilogit_jax.evaluation import gradient_norms
from unilogit_jax.sharding import make_mesh
from unilogit_jax.types import IGNORE


def some_rows(count: int = 3, length: int = 8, unseen: int | None = None) -> Rows:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 40, (count, length)).astype(np.int32)
    if unseen is not None:
        tokens[:, 2::3] = unseen
    labels = np.full_like(tokens, IGNORE)
    for row in range(count):
        labels[row, row + 1 : length - 1] = tokens[row, row + 2 :]
    return Rows(tokens, labels, np.full(count, length, np.int32), unseen)


@pytest.fixture(scope="module")
def tiny():
    config = models.DecoderConfig.scratch(
        vocab_size=40, width=16, layers=2, heads=2, tie_embeddings=False
    )
    mesh = make_mesh(devices=jax.devices()[:1])
    return models.init(config, jax.random.key(0), mesh=mesh)


@pytest.mark.parity
@pytest.mark.parametrize("unseen", [None, 39], ids=["all seen", "one token hidden"])
def test_norms_are_those_of_torch(tiny, tmp_path, unseen):
    import torch
    from transformers import AutoModelForCausalLM

    model, params = tiny
    models.save(tmp_path, model, params)
    net = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    rows, wanted = some_rows(unseen=unseen), []
    for tokens, labels in zip(rows.tokens, rows.labels, strict=True):
        net.zero_grad()
        ids = torch.tensor(tokens[None], dtype=torch.long)
        logits = net(ids, attention_mask=(ids != (-1 if unseen is None else unseen)).long())
        target = torch.tensor(labels, dtype=torch.long)
        nll = torch.nn.functional.cross_entropy(logits.logits[0], target, ignore_index=IGNORE)
        nll.backward()
        norms = [p.grad.norm() for p in net.parameters()]
        wanted.append(float(torch.stack(norms).mean()))
    mesh = make_mesh(devices=jax.devices()[:1])
    got = gradient_norms(models.apply_fn(model), params, rows, mesh=mesh)
    np.testing.assert_allclose(got, wanted, rtol=1e-4)


def test_eight_devices_give_the_same_norms(tiny):
    model, params = tiny
    one = make_mesh(devices=jax.devices()[:1])
    wanted = gradient_norms(models.apply_fn(model), params, some_rows(), mesh=one)
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    spread, placed = models.init(model.config, jax.random.key(0), mesh=mesh)
    got = gradient_norms(models.apply_fn(spread), placed, some_rows(), mesh=mesh)
    np.testing.assert_allclose(got, wanted, rtol=1e-4)
