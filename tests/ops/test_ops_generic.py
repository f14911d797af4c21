# SPDX-License-Identifier: Apache-2.0
"""What is said of generic logits, and what is stored of a teacher made of them: against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax.ops import GenericHead, generic_log_odds, generic_top, label_log_odds
from unilogit_jax.sharding import head_sharding, make_mesh
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


EXTRAS = ("hit", "logit_mean", "logprob_moments")
FORMS = [{}, {"valid_vocab": 4099, "softcap": 3.0}, {"layout": "dv", "bias": True}]
"""More columns than a block has, so that three are merged."""


def two_heads(alpha, *, columns=4104, layout="vd", bias=False, **fields):
    """Hidden states side by side, a head, and the generic logits in float64."""
    rng = np.random.default_rng(1)
    hidden = rng.normal(size=(2, 8, L, D)).astype(np.float32)
    kernels = rng.normal(size=(2, columns, D)).astype(np.float32)
    biases = rng.normal(size=(2, columns)).astype(np.float32)
    z = np.einsum("mbld,mvd->mblv", hidden.astype(float), kernels)
    z = z + biases[:, None, None] if bias else z
    if cap := fields.get("softcap"):
        z = cap * np.tanh(z / cap)
    heads = [
        Head(
            kernel=jnp.asarray(w if layout == "vd" else w.T),
            bias=jnp.asarray(b) if bias else None,
            layout=layout,
            **fields,
        )
        for w, b in zip(kernels, biases, strict=True)
    ]
    head = GenericHead(base=heads[0], reinforced=heads[1], alpha=alpha)
    base, other = z[..., : fields.get("valid_vocab", columns)]
    both = jnp.asarray(np.concatenate(hidden, axis=-1))
    return both, head, base - alpha * np.maximum(other - base, 0)


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("alpha", [0.7, 5.0])
def test_log_odds_hits_and_moments_are_those_of_the_formula(alpha, form, spread):
    hidden, head, z = two_heads(alpha, **form)
    rng = np.random.default_rng(2)
    labels = rng.integers(0, z.shape[-1], (8, L))
    labels[::2] = z.argmax(-1)[::2]
    weights = jnp.asarray(rng.integers(0, 2, (8, L)), jnp.float32)
    mesh = make_mesh(fsdp=2, tensor=4, data=1) if spread else make_mesh(devices=jax.devices()[:1])
    found = jax.jit(
        lambda hidden, head: generic_log_odds(
            hidden,
            head,
            jnp.asarray(labels),
            weights,
            extras=EXTRAS,
            sharding=head_sharding(head.base, hidden.shape, mesh),
        )
    )(jnp.where(weights[..., None] > 0, hidden, jnp.nan), head)
    top = z.max(-1, keepdims=True)
    logp = z - top - np.log(np.exp(z - top).sum(-1, keepdims=True))
    own = np.take_along_axis(logp, labels[..., None], -1)[..., 0]
    mean = (np.exp(logp) * logp).sum(-1)
    wanted = {
        "log_odds": own - np.log(-np.expm1(own)),
        "logit_mean": z.mean(-1),
        "logprob_mean": mean,
        "logprob_var": (np.exp(logp) * (logp - mean[..., None]) ** 2).sum(-1),
    }
    live = np.asarray(weights) > 0
    for name, value in wanted.items():
        got = np.asarray(getattr(found, name))
        np.testing.assert_allclose(got[live], value[live], **TOLERANCE, err_msg=name)
        assert (got[~live] == 0).all(), name
    np.testing.assert_array_equal(found.hit, live & (z.argmax(-1) == labels))
    assert 0 < np.asarray(found.hit).sum() < live.sum()


def test_with_alpha_0_nothing_but_the_base_is_left():
    hidden, head, _ = two_heads(0.0)
    labels, weights = jnp.full((8, L), 3), jnp.ones((8, L))
    found = generic_log_odds(hidden, head, labels, weights, extras=EXTRAS)
    alone = label_log_odds(hidden[..., :D], head.base, labels, weights, extras=EXTRAS)
    jax.tree.map(np.testing.assert_array_equal, found, alone)
    np.testing.assert_array_equal(head.logits(hidden), head.base.logits(hidden[..., :D]))
