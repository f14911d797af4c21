# SPDX-License-Identifier: Apache-2.0
"""Divergences at the limits: memorised tokens, NaN, bfloat16, the memory of a real vocabulary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from divergence_rig import logits, own_head, teacher_of, through_head
from ops_oracle import divergence as exact
from ops_oracle import logsumexp, target

from unilogit_jax.ops import Divergence, Teacher, divergence_loss
from unilogit_jax.types import Head

pytestmark = pytest.mark.usefixtures("strict_dtypes")


def test_label_gradients_of_memorised_tokens_keep_their_digits(rng):
    """Teacher and model are sure of the label: differences of probabilities near 1 are noise."""
    n, v = 8, 5003
    z, u = (rng.normal(size=(n, v)).astype(np.float32) for _ in range(2))
    labels = rng.integers(0, v, n).astype(np.int32)
    for x, wanted in ((z, np.linspace(-20, 30, n)), (u, np.linspace(25, 12, n))):
        rows = np.arange(n)
        others = x.astype(np.float64)
        others[rows, labels] = -np.inf
        x[rows, labels] = (wanted + logsumexp(others)[:, 0]).astype(np.float32)
    for direction, options in (
        ("forward", {}),
        ("forward", {"beta": 10.0}),
        ("reverse", {"tau": 1 / v}),
        ("anchored", {"beta": 10.0}),
        ("js", {}),
    ):
        divergence = Divergence(direction=direction, **options)

        def loss(kernel, divergence=divergence):
            head = Head(kernel=kernel, layout="dv")
            teacher = Teacher(hidden=jnp.eye(n), head=Head(kernel=jnp.asarray(u), layout="dv"))
            ones = jnp.ones(n)
            return divergence_loss(
                jnp.eye(n), head, teacher, jnp.asarray(labels), ones, divergence
            )[0]

        dz = np.asarray(jax.jit(jax.grad(loss))(jnp.asarray(z)), np.float64)
        tau = options.get("tau")
        tau = None if tau is None else np.full(n, tau)
        wide = np.longdouble
        logt = target(u.astype(wide), labels, beta=options.get("beta", 0.0), tau=tau)
        _, wanted = exact(z.astype(wide), logt, labels, direction)
        got, wanted = dz[np.arange(n), labels], wanted[np.arange(n), labels]
        p = 1 / (1 + np.exp(-np.linspace(-20, 30, n)))
        bound = 1e-5 * (np.abs(wanted) + p * (1 - p))
        assert (np.abs(got - wanted) <= bound).all(), (direction, options)


def test_positions_that_do_not_count_are_inert_even_with_nan(made):
    side, ref, labels, weights = made
    off = np.asarray(weights)[:, None] == 0
    dirty = dict(side, hidden=jnp.where(off, jnp.nan, side["hidden"]))
    dirty_ref = dict(ref, hidden=jnp.where(off, jnp.nan, ref["hidden"]))

    @jax.jit
    def run(side, ref):
        def loss(side):
            args = (side["hidden"], own_head(side), teacher_of(ref), labels, weights)
            return divergence_loss(*args, Divergence(direction="js"))[0]

        return jax.value_and_grad(loss)(side)

    clean, got = run(side, ref), run(dirty, dirty_ref)
    for a, b in zip(jax.tree.leaves(clean), jax.tree.leaves(got), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.any(np.asarray(got[1]["hidden"])[off[:, 0]])


def test_bfloat16_states_give_float32_divergences(made):
    side, ref, labels, weights = made
    args = (labels, weights, Divergence(direction="reverse"))
    low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (side, ref))

    def loss(side, ref):
        return divergence_loss(side["hidden"], own_head(side), teacher_of(ref), *args)[0]

    value, grads = jax.value_and_grad(loss)(*low)
    assert value.dtype == jnp.float32 and grads["hidden"].dtype == jnp.bfloat16
    z, u = logits(*low)
    y, w = np.asarray(labels), np.asarray(weights, np.float64)
    values, dz = exact(z, target(u, y), y, "reverse")
    assert float(value) == pytest.approx((w * values).sum(), rel=1e-3)
    wanted = through_head(w[:, None] * dz, low[0])["hidden"]
    error = np.linalg.norm(np.asarray(grads["hidden"], np.float64) - wanted)
    assert error <= 2e-2 * np.linalg.norm(wanted)


@pytest.mark.parametrize("keep", [None, False])
def test_temporary_memory_at_a_real_vocabulary(keep):
    n, d, v = 2048, 256, 128256

    def loss(hidden, kernel, ref_hidden, ref_kernel, labels, weights):
        teacher = Teacher(hidden=ref_hidden, head=ref_kernel)
        undial = Divergence(direction="cross_entropy", beta=10.0)
        return divergence_loss(hidden, kernel, teacher, labels, weights, undial, keep=keep)[0]

    shapes = [(n, d), (v, d), (n, d), (v, d), (n,), (n,)]
    dtypes = [jnp.float32] * 4 + [jnp.int32, jnp.float32]
    args = [jax.ShapeDtypeStruct(s, t) for s, t in zip(shapes, dtypes, strict=True)]
    made = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(*args).compile()
    limit = 300e6 if keep is None else 50e6
    assert made.memory_analysis().temp_size_in_bytes <= limit
