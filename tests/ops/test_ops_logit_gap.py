# SPDX-License-Identifier: Apache-2.0
"""A logit less the mean of all, against all logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax.ops import logit_gap
from unilogit_jax.types import Head


@pytest.mark.parametrize("layout", ["vd", "dv"])
@pytest.mark.parametrize("valid", [None, 9])
@pytest.mark.parametrize("biased", [False, True])
def test_value_and_gradient_are_those_of_all_logits(layout, valid, biased):
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.normal(size=(3, 4, 5)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(12, 5)), jnp.float32)
    kernel = kernel if layout == "vd" else kernel.T
    bias = jnp.asarray(rng.normal(size=12), jnp.float32) if biased else None
    mask = jnp.asarray(rng.integers(0, 2, (3, 4)))

    def head(kernel):
        return Head(kernel=kernel, bias=bias, layout=layout, valid_vocab=valid)

    best = jnp.argmax(head(kernel).logits(hidden), -1)

    def ours(hidden, kernel):
        return jnp.sum(logit_gap(hidden, head(kernel), best, mask) ** 2)

    def plain(hidden, kernel):
        z = head(kernel).logits(hidden)[..., : valid or 12]
        return jnp.sum(jnp.where(mask, z.max(-1) - z.mean(-1), 0.0) ** 2)

    values = [jax.value_and_grad(f, argnums=(0, 1))(hidden, kernel) for f in (ours, plain)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *values)


def test_what_is_not_wanted_may_be_anything():
    hidden = jnp.asarray([[1.0, 2.0], [jnp.nan, jnp.nan]])
    tokens, mask = jnp.asarray([0, -100]), jnp.asarray([1.0, 0.0])

    def total(kernel):
        return jnp.sum(logit_gap(hidden, Head(kernel=kernel), tokens, mask))

    value, grad = jax.value_and_grad(total)(jnp.eye(2))
    assert value == pytest.approx(-0.5) and np.isfinite(grad).all()


def test_a_head_with_a_cap_is_refused():
    with pytest.raises(ValueError, match=r"caps its logits at 30\.0"):
        logit_gap(
            jnp.ones((1, 2)),
            Head(kernel=jnp.ones((3, 2)), softcap=30.0),
            jnp.zeros(1, jnp.int32),
            jnp.ones(1),
        )
