# SPDX-License-Identifier: Apache-2.0
"""A teacher of two models' logits: what is stored of it, against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax.ops import generic_top
from unilogit_jax.types import Head, ModelOutput

B, L, D, V = 3, 7, 6, 20
TOLERANCE = {"rtol": 2e-5, "atol": 2e-5}


def case(alpha, k, block, **head):
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(2, B, L, D)).astype(np.float32)
    kernels = rng.normal(size=(2, V, D)).astype(np.float32)
    labels = rng.integers(0, 15, (B, L))
    both = [
        ModelOutput(hidden=jnp.asarray(h), head=Head(kernel=jnp.asarray(w), **head))
        for h, w in zip(hidden, kernels, strict=True)
    ]
    found = jax.jit(lambda a, b, y: generic_top(a, b, y, alpha=alpha, k=k, block=block))(
        *both, jnp.asarray(labels)
    )
    valid = head.get("valid_vocab", V)
    base, other = np.einsum("mbld,mvd->mblv", hidden.astype(float), kernels)[..., :valid]
    z = base - alpha * np.maximum(other - base, 0)
    p = np.exp(z - z.max(-1, keepdims=True))
    return [np.asarray(x) for x in found], p / p.sum(-1, keepdims=True), labels


@pytest.mark.parametrize(
    ("alpha", "block", "head"),
    [(0.0, 1, {}), (0.7, 6, {"valid_vocab": 17}), (5.0, 6, {}), (5.0, 512, {"valid_vocab": 17})],
)
def test_what_is_stored_is_that_of_the_formula(alpha, block, head):
    (odds, tokens, logprobs, tail), p, labels = case(alpha, 4, block, **head)
    own = np.take_along_axis(p, labels[..., None], -1)[..., 0]
    others = p.copy()
    np.put_along_axis(others, labels[..., None], 0.0, -1)
    np.testing.assert_allclose(odds, np.log(own / others.sum(-1)), **TOLERANCE)
    np.testing.assert_array_equal(tokens, np.argsort(-others, -1)[..., :4])
    np.testing.assert_allclose(logprobs, np.log(np.take_along_axis(p, tokens, -1)), **TOLERANCE)
    np.put_along_axis(others, tokens, 0.0, -1)
    np.testing.assert_allclose(tail, np.log(others.sum(-1)), **TOLERANCE)


def test_a_vocabulary_that_is_stored_whole_has_no_tail_and_no_further_tokens():
    (_, tokens, logprobs, tail), _, labels = case(5.0, 25, 6, valid_vocab=17)
    least = np.finfo(np.float32).min
    assert (tokens[..., 16:] == -1).all() and (logprobs[..., 16:] == least).all()
    assert (tail == least).all()
    for found, label in zip(tokens[..., :16].reshape(-1, 16), labels.ravel(), strict=True):
        assert {*found, label} == set(range(17))
