# SPDX-License-Identifier: Apache-2.0
"""Divergences from a teacher of which a few tokens are stored: those of groups of tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from divergence_rig import (
    DIRECTIONS,
    TARGETS,
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

from unilogit_jax.ops import (
    Divergence,
    TopK,
    chunked_divergence,
    divergence_loss,
    label_log_odds,
    top_tokens,
)

pytestmark = pytest.mark.usefixtures("strict_dtypes")
KEPT = 4


def grouped(x, labels, tokens):
    """log-masses [N, k + 2] of label, tokens and the rest."""
    rows = np.arange(len(x))[:, None]
    rest = x.copy()
    rest[rows, tokens] = -np.inf
    rest[rows[:, 0], labels] = -np.inf
    return np.concatenate([x[rows, labels[:, None]], x[rows, tokens], logsumexp(rest)], axis=1)


@jax.jit
def kept_tokens(ref, labels):
    """The teacher's likeliest tokens, and the masses of them, the label and the rest."""
    teacher = teacher_of(ref)
    tokens = top_tokens(teacher.hidden, teacher.head, labels, jnp.ones(N), k=KEPT)
    stats = label_log_odds(teacher.hidden, teacher.head, labels, jnp.ones(N), picks=tokens)
    return tokens, {
        "logprobs": stats.pick_logprobs,
        "label_logprob": -jax.nn.softplus(-stats.log_odds),
        "tail_logprob": stats.tail_logprob,
    }


@pytest.mark.parametrize("way", ["at once", "later"])
@pytest.mark.parametrize("options", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_stored_teacher_compares_groups_of_tokens(made, small_cuts, direction, options, way):
    side, ref, labels, weights = made
    z, u = logits(side, ref)
    y, w = np.asarray(labels), np.asarray(weights, np.float64)
    tokens, stored = kept_tokens(ref, labels)
    others = u.copy()
    others[np.arange(N), y] = -np.inf
    np.testing.assert_array_equal(tokens, np.argsort(-others, axis=1, kind="stable")[:, :KEPT])
    log_ref = grouped(u, y, np.asarray(tokens)) - logsumexp(u)
    np.testing.assert_allclose(stored["logprobs"], log_ref[:, 1:-1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(stored["tail_logprob"], log_ref[:, -1], rtol=1e-5, atol=1e-5)
    divergence = Divergence(direction=direction, **options)

    def loss(side):
        top = TopK(tokens=tokens, **stored)
        args = (side["hidden"], own_head(side), top, labels, weights, divergence)
        if way == "later":
            return jnp.sum(weights * chunked_divergence(*args).values)
        return divergence_loss(*args)[0]

    value, grads = jax.jit(jax.value_and_grad(loss))(side)
    groups, first = grouped(z, y, np.asarray(tokens)), np.zeros(N, int)
    logt = target(log_ref, first, **exact_options(options))
    values, dg = exact(groups, logt, first, direction)
    assert float(value) == pytest.approx((w * values).sum(), rel=1e-5)
    # The gradient of a group's logsumexp spreads over its tokens like their shares of it.
    dz = np.exp(z - groups[:, -1:]) * dg[:, -1:]
    rows = np.arange(N)
    dz[rows, y] = dg[:, 0]
    dz[rows[:, None], np.asarray(tokens)] = dg[:, 1:-1]
    assert_close(grads, through_head(w[:, None] * dz, side))


def test_a_stored_token_that_the_model_finds_impossible_is_still_pulled_up():
    """Its probability is 0 in float32, its gradient is not."""
    logits = jnp.asarray([[1.0, 0.0, -300.0, 0.5, 0.2]])
    teacher = TopK(
        tokens=jnp.array([[2]]),
        logprobs=jnp.log(jnp.array([[0.4]])),
        label_logprob=jnp.log(jnp.array([0.2])),
        tail_logprob=jnp.log(jnp.array([0.4])),
    )

    def loss(kernel):
        args = (jnp.ones((1, 1)), kernel, teacher, jnp.array([0]), jnp.ones(1))
        return divergence_loss(*args, Divergence(direction="forward"))[0]

    grad = jax.grad(loss)(logits.T)[:, 0]
    z = np.asarray(logits, np.float64)[0]
    p = np.exp(z) / np.exp(z).sum()
    tail = p[[1, 3, 4]] / p[[1, 3, 4]].sum()
    wanted = p - np.array([0.2, 0.4 * tail[0], 0.4, 0.4 * tail[1], 0.4 * tail[2]])
    np.testing.assert_allclose(grad, wanted, rtol=1e-5, atol=1e-6)
