# SPDX-License-Identifier: Apache-2.0
"""Parity with plain PyTorch: the dense formulas other code bases use, where those are accurate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from losses_oracle import logits_with_log_odds

from unilogit_jax.losses import cross_entropy, npo, undial, unilogit

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("strict_dtypes")]
M = np.array([-8.0, -3.0, -0.5, 0.0, 1.0, 3.0, 5.0])


def ours(loss, z):
    @jax.jit
    def run(z):
        values, vjp = jax.vjp(loss, z)
        return values, vjp(jnp.ones_like(values))[0]

    return run(jnp.asarray(z))


def theirs(loss, z):
    import torch

    z = torch.tensor(z, dtype=torch.float64, requires_grad=True)
    values = loss(z)
    values.sum().backward()
    return values.detach().numpy(), z.grad.numpy()


def assert_parity(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("direction", ["reverse", "forward"])
def test_unilogit_matches_the_dense_torch_formula_with_a_detached_target(rng, direction):
    import torch
    from torch.nn import functional as F

    z, labels = logits_with_log_odds(rng, M, 513)

    def dense(z):
        index = torch.tensor(labels, dtype=torch.int64)[:, None]
        teacher = z.detach().clone()
        others = teacher.scatter(1, index, -torch.inf).logsumexp(-1, keepdim=True)
        teacher = teacher.scatter(1, index, others - np.log(z.shape[-1] - 1))
        log_t, log_p = F.log_softmax(teacher, -1), F.log_softmax(z, -1)
        pair = (log_t, log_p) if direction == "reverse" else (log_p, log_t)
        return F.kl_div(*pair, reduction="none", log_target=True).sum(-1)

    mine = ours(lambda z: unilogit(z, jnp.asarray(labels), direction=direction), z)
    assert_parity(mine, theirs(dense, z))


def test_cross_entropy_matches_torch_with_its_ignore_index(rng):
    import torch
    from torch.nn import functional as F

    z, labels = logits_with_log_odds(rng, M, 100)
    labels[2] = -100
    index = torch.tensor(labels, dtype=torch.int64)
    mine = ours(lambda z: cross_entropy(z, jnp.asarray(labels)), z)
    assert_parity(mine, theirs(lambda z: F.cross_entropy(z, index, reduction="none"), z))


def test_undial_matches_torch_cross_entropy_with_soft_targets(rng):
    import torch
    from torch.nn import functional as F

    z, labels = logits_with_log_odds(rng, M, 100)
    ref, _ = logits_with_log_odds(rng, M, 100)

    def dense(z):
        hot = F.one_hot(torch.tensor(labels, dtype=torch.int64), 100)
        soft = F.softmax(torch.tensor(ref, dtype=torch.float64) - 10.0 * hot, -1)
        return F.cross_entropy(z, soft, reduction="none")

    mine = ours(lambda z: undial(z, jnp.asarray(ref), jnp.asarray(labels)), z)
    assert_parity(mine, theirs(dense, z))


def test_npo_matches_torch_logsigmoid(rng):
    import torch
    from torch.nn import functional as F

    logprobs, ref = (rng.normal(size=(2, 6)) * 20 - 50).astype(np.float32)

    def dense(x):
        return -2 / 0.1 * F.logsigmoid(-0.1 * (x - torch.tensor(ref, dtype=torch.float64)))

    assert_parity(ours(lambda x: npo(x, jnp.asarray(ref)), logprobs), theirs(dense, logprobs))
