# SPDX-License-Identifier: Apache-2.0
"""Divergences from a teacher: the numbers of whole distributions, without ever making them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from divergence_rig import (
    DIRECTIONS,
    TARGETS,
    VALID,
    N,
    assert_close,
    exact_options,
    logits,
    own_head,
    teacher_of,
    through_head,
)
from ops_oracle import divergence as exact
from ops_oracle import logsumexp, target

from unilogit_jax.ops import Divergence, Teacher, chunked_divergence, divergence_loss

pytestmark = pytest.mark.usefixtures("strict_dtypes")


@pytest.mark.parametrize("way", ["kept", "never kept", "later"])
@pytest.mark.parametrize("options", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_value_and_gradients_equal_float64(made, small_cuts, direction, options, way):
    side, ref, labels, weights = made
    divergence = Divergence(direction=direction, **options)

    def loss(side):
        args = (side["hidden"], own_head(side), teacher_of(ref), labels, weights, divergence)
        if way == "later":
            return jnp.sum(weights * chunked_divergence(*args).values)
        return divergence_loss(*args, keep=way == "kept")[0]

    value, grads = jax.jit(jax.value_and_grad(loss))(side)
    z, u = logits(side, ref)
    y, w = np.asarray(labels), np.asarray(weights, np.float64)
    values, dz = exact(z, target(u, y, **exact_options(options)), y, direction)
    assert float(value) == pytest.approx((w * values).sum(), rel=1e-5)
    assert_close(grads, through_head(w[:, None] * dz, side))


@pytest.mark.parametrize("direction", ["forward", "reverse", "js"])
def test_the_uniform_distribution_is_a_teacher(made, small_cuts, direction):
    side, ref, labels, weights = made

    def loss(side):
        args = (side["hidden"], own_head(side), None, None, weights)
        return divergence_loss(*args, Divergence(direction=direction))[0]

    value, grads = jax.jit(jax.value_and_grad(loss))(side)
    z, _ = logits(side, ref)
    w = np.asarray(weights, np.float64)
    logt = np.full(z.shape, -np.log(VALID))
    values, dz = exact(z, logt, np.asarray(labels), direction)
    assert float(value) == pytest.approx((w * values).sum(), rel=1e-5)
    assert_close(grads, through_head(w[:, None] * dz, side))


def test_values_and_log_odds_are_reported_token_by_token(made):
    side, ref, labels, weights = made
    args = (side["hidden"], own_head(side), teacher_of(ref), labels, weights, Divergence(beta=2.0))
    stats = chunked_divergence(*args)
    _, at_once = divergence_loss(*args)
    z, u = logits(side, ref)
    y, on = np.asarray(labels), np.asarray(weights) > 0
    values, _ = exact(z, target(u, y, beta=2.0), y, "forward")
    for x, name in ((z, "log_odds"), (u, "ref_log_odds")):
        others = x.copy()
        others[np.arange(N), y] = -np.inf
        m = np.where(on, x[np.arange(N), y] - logsumexp(others)[:, 0], 0)
        np.testing.assert_allclose(getattr(stats, name), m, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(stats.values, np.where(on, values, 0), rtol=1e-5, atol=1e-6)
    for a, b in zip(jax.tree.leaves(stats), jax.tree.leaves(at_once), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_no_gradient_reaches_the_teacher(made):
    side, ref, labels, weights = made

    def loss(ref, logit_tau):
        args = (side["hidden"], own_head(side), teacher_of(ref), labels, weights, Divergence())
        return jnp.sum(chunked_divergence(*args, logit_tau=logit_tau).values)

    grads = jax.grad(loss, argnums=(0, 1))(ref, jnp.zeros(N))
    assert not any(np.any(x) for x in jax.tree.leaves(grads))


def test_each_token_may_have_its_own_label_probability(made):
    side, ref, labels, weights = made
    tau = np.linspace(0.05, 0.9, N)
    args = (side["hidden"], own_head(side), teacher_of(ref), labels, weights, Divergence())
    logit_tau = jnp.asarray(np.log(tau) - np.log1p(-tau), jnp.float32)
    got = chunked_divergence(*args, logit_tau=logit_tau).values
    z, u = logits(side, ref)
    y = np.asarray(labels)
    values, _ = exact(z, target(u, y, tau=tau), y, "forward")
    np.testing.assert_allclose(got, np.where(np.asarray(weights) > 0, values, 0), rtol=1e-5)


def test_a_teacher_that_is_the_model_costs_nothing_and_moves_nothing(made):
    side, _, labels, weights = made
    teacher = Teacher(hidden=side["hidden"], head=own_head(side))
    for direction in ("forward", "reverse", "js", "anchored"):
        divergence = Divergence(direction=direction)

        def loss(side, divergence=divergence):
            args = (side["hidden"], own_head(side), teacher, labels, weights, divergence)
            return divergence_loss(*args)[0]

        value, grads = jax.value_and_grad(loss)(side)
        assert abs(float(value)) <= 1e-5
        assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(grads)) <= 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"direction": "backward"}, "direction='backward' is unknown; use one of 'forward'"),
        ({"tau": 0.5, "beta": 1.0}, "beta=1.0 lowers what tau=0.5 sets: give one of them"),
        ({"tau": 1.0}, r"tau=1.0 is outside 0 < tau < 1"),
        ({"tau": "flat"}, "tau='flat' is no number, 'uniform' or None"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Divergence(**options)


def test_teachers_of_another_vocabulary_and_missing_labels_are_refused(made):
    side, ref, labels, weights = made
    other = Teacher(hidden=ref["hidden"], head=ref["kernel"].T)
    with pytest.raises(ValueError, match="one vocabulary: the model's head has 50 tokens in 53"):
        chunked_divergence(side["hidden"], own_head(side), other, labels, weights, Divergence())
    with pytest.raises(ValueError, match="needs labels"):
        chunked_divergence(
            side["hidden"], own_head(side), None, None, weights, Divergence(beta=1.0)
        )
