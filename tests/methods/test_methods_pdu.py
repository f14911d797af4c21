# SPDX-License-Identifier: Apache-2.0
"""PDU against its formula, in NumPy and in torch, and the life of its multiplier."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from methods_rig import check, loss_and_slopes, make, retain_nll

from unilogit_jax.methods import Pdu
from unilogit_jax.types import FORGET, RETAIN

METHOD = Pdu(forget_weight=0.5)
DUAL = jnp.float32(3.0)


@pytest.mark.parametrize("sure", [0.0, 25.0])
def test_value_and_gradient_are_those_of_the_formula(sure):
    def oracle(made):
        gaps = np.concatenate([z.max(-1) - z.mean(-1) for z, _, _ in made.of(FORGET)])
        return 0.5 * (gaps**2).mean() + 3.0 * retain_nll(made)

    check(METHOD, make(sure=sure), oracle, state=DUAL)


def test_value_and_gradient_are_those_of_torch():
    torch = pytest.importorskip("torch")
    made = make()
    z, sets = torch.tensor(made.logits, requires_grad=True), np.asarray(made.batch.sets)
    on = np.asarray(made.batch.weights) > 0
    forget, retain = (torch.tensor(on & (sets == which)) for which in (FORGET, RETAIN))
    gap = z[forget].max(-1).values - z[forget].mean(-1)
    labels = torch.tensor(np.asarray(made.batch.labels), dtype=torch.long)[retain]
    nll = torch.nn.functional.cross_entropy(z[retain], labels)
    loss = 0.5 * (gap**2).mean() + 3.0 * nll
    loss.backward()
    value, slopes, numbers = loss_and_slopes(METHOD, made, state=DUAL)
    assert value == pytest.approx(loss.item(), rel=1e-5)
    assert numbers["retain_nll"] == pytest.approx(nll.item(), rel=1e-5)
    assert numbers["dual"] == pytest.approx(3.0)
    np.testing.assert_allclose(slopes, z.grad.numpy(), atol=1e-5 * float(z.grad.abs().max()))


def test_the_multiplier_follows_the_constraint():
    method = Pdu(lambda0=1.0, step_size=2.0, eps=0.5, warmup=3)

    def after(state, nll, step):
        return float(method.advance(jnp.float32(state), {"retain_nll": jnp.float32(nll)}, step))

    assert float(method.start(jax.random.key(0), width=4)) == 1.0
    assert after(1.0, 0.75, 2) == 1.0, "still warming up"
    assert after(1.0, 0.75, 3) == 1.5, "it rises above the bound"
    assert after(1.0, 0.25, 3) == 0.5, "it falls below it"
    assert after(0.25, 0.0, 9) == 0.0, "never below 0"


def test_without_its_weight_the_retain_term_is_gone():
    made = make()
    _, slopes, _ = loss_and_slopes(replace(METHOD, retain_weight=0.0), made, state=DUAL)
    assert not slopes[np.asarray(made.batch.sets) == RETAIN].any()
