# SPDX-License-Identifier: Apache-2.0
"""The fused head: exact against float64, however it is cut up, with nothing of the logits' size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax.losses import unilogit_from_log_odds
from unilogit_jax.ops import head_loss, label_log_odds
from unilogit_jax.ops.blocks import Plan, make_plan
from unilogit_jax.types import Head

pytestmark = pytest.mark.usefixtures("strict_dtypes")
WAYS = {"kept": {"keep": True}, "never kept": {"keep": False}}


def unilogit_phi(vocab_size):
    def phi(m, aux):
        del aux
        loss = jax.tree_util.Partial(unilogit_from_log_odds, vocab_size=vocab_size)
        return jax.jvp(loss, (m,), (jnp.ones_like(m),))

    return phi


def weighted_phi(m, aux):
    """Cross entropy times a number per token."""
    return aux * jax.nn.softplus(-m), -aux * jax.nn.sigmoid(-m)


def oracle(z, labels):
    """float64: log-odds, and the alternatives' distribution with 0 at the label."""
    z = np.asarray(z, np.float64)
    rows = np.arange(len(z))
    others = z.copy()
    others[rows, labels] = -np.inf
    top = others.max(axis=1, keepdims=True)
    s = top[:, 0] + np.log(np.exp(others - top).sum(axis=1))
    return z[rows, labels] - s, np.exp(others - s[:, None])


def dense(z, labels):
    """The log-odds in float32 from all logits, differentiable."""
    at = jnp.arange(z.shape[1])[None, :] == labels[:, None]
    label = jnp.sum(jnp.where(at, z, jnp.float32(0)), axis=1)
    return label - jax.nn.logsumexp(jnp.where(at, -jnp.inf, z), axis=1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("vocab", [7, 1000, 5003, 32000, 128256])
def test_label_gradients_are_exact_from_impossible_to_memorised_labels(rng, vocab, way):
    wanted = np.linspace(-30, 40, 15)
    n = len(wanted)
    z = rng.normal(size=(n, vocab)).astype(np.float32)
    labels = rng.integers(0, vocab, n).astype(np.int32)
    labels[:2] = 0, vocab - 1
    m, _ = oracle(z, labels)
    z[np.arange(n), labels] += (wanted - m).astype(np.float32)
    # With the unit matrix as hidden states the kernel holds the logits, and its gradient is dL/dz.
    step = jax.jit(
        jax.value_and_grad(
            lambda kernel: head_loss(
                jnp.eye(n),
                Head(kernel=kernel, layout="dv"),
                jnp.asarray(labels),
                jnp.ones(n),
                unilogit_phi(vocab),
                **WAYS[way],
            )[0]
        )
    )
    value, dz = step(jnp.asarray(z))
    m, q = oracle(z, labels)
    p, rest = 1 / (1 + np.exp(-m)), 1 / (1 + np.exp(m))
    w = p * rest * (m + np.log(vocab - 1))
    bound = 1e-5 * (np.abs(w) + p * rest)
    label_entry = np.asarray(dz)[np.arange(n), labels]
    assert (np.abs(label_entry - w) <= bound).all()
    other_entries = np.where(q > 0, np.asarray(dz), 0.0)
    assert (np.abs(other_entries + w[:, None] * q) <= bound[:, None] * np.maximum(q, 1e-6)).all()
    exact = p * (np.log(vocab) + np.log(p)) + rest * (np.log(rest) - np.log1p(-1 / vocab))
    assert abs(float(value) - exact.sum()) <= 1e-5 * np.abs(exact).sum() + 1e-6 * n


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("layout", ["vd", "dv"])
@pytest.mark.parametrize("cap", [None, 3.0])
def test_every_head_and_cut_gives_the_gradients_of_the_dense_loss(
    rng, way, layout, cap, monkeypatch
):
    # Chunks and blocks that divide neither tokens nor columns.
    monkeypatch.setattr("unilogit_jax.ops.blocks.CHUNK", {True: 10, False: 10})
    monkeypatch.setattr("unilogit_jax.ops.blocks.BLOCK", 16)
    n, d, v, valid = 37, 8, 53, 50
    hidden, kernel, bias = (
        jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((n, d), (v, d), (v,))
    )
    labels = jnp.asarray(rng.integers(0, valid, n), jnp.int32)
    weights = jnp.asarray((rng.random(n) > 0.4) * rng.random(n), jnp.float32)
    aux = jnp.asarray(rng.random(n), jnp.float32)

    def ours(hidden, kernel, bias):
        kernel = kernel if layout == "vd" else kernel.T
        head = Head(kernel=kernel, bias=bias, layout=layout, softcap=cap, valid_vocab=valid)
        return head_loss(hidden, head, labels, weights, weighted_phi, aux=aux, **WAYS[way])[0]

    def wanted(hidden, kernel, bias):
        z = hidden @ kernel.T + bias[None, :]
        z = z if cap is None else cap * jnp.tanh(z / cap)
        z = jnp.where(jnp.arange(v)[None, :] < valid, z, -jnp.inf)
        return jnp.sum(weights * weighted_phi(dense(z, labels), aux)[0])

    got = jax.jit(jax.value_and_grad(ours, argnums=(0, 1, 2)))(hidden, kernel, bias)
    expected = jax.jit(jax.value_and_grad(wanted, argnums=(0, 1, 2)))(hidden, kernel, bias)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * float(jnp.abs(b).max()))


def test_both_entries_agree_with_each_other(rng):
    n, d, v = 40, 8, 100
    hidden = jnp.asarray(rng.normal(size=(n, d)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(v, d)), jnp.float32)
    labels = jnp.asarray(rng.integers(-1, v, n), jnp.int32)
    weights = jnp.where(labels >= 0, jnp.linspace(0.0, 1.0, n, dtype=jnp.float32), 0)
    aux = jnp.ones(n)

    def at_once(hidden, kernel):
        return head_loss(hidden, kernel, labels, weights, weighted_phi, aux=aux)[0]

    def later(hidden, kernel):
        m = label_log_odds(hidden, kernel, labels, weights).log_odds
        return jnp.sum(weights * jax.nn.softplus(-m))

    a = jax.jit(jax.value_and_grad(at_once, argnums=(0, 1)))(hidden, kernel)
    b = jax.jit(jax.value_and_grad(later, argnums=(0, 1)))(hidden, kernel)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    # The value alone takes another way through the code than the value with gradients.
    assert float(jax.jit(at_once)(hidden, kernel)) == pytest.approx(float(a[0]), rel=1e-6)


def test_statistics_equal_float64(rng):
    n, d, v = 12, 8, 301
    hidden = rng.normal(size=(n, d)).astype(np.float32)
    kernel = rng.normal(size=(v, d)).astype(np.float32)
    labels = rng.integers(0, v, n).astype(np.int32)
    z = hidden.astype(np.float64) @ kernel.T.astype(np.float64)
    labels[0] = z[0].argmax()
    weights = np.ones(n, np.float32)
    weights[-1] = 0
    extras = ("hit", "logit_mean", "logprob_moments")
    stats = jax.jit(lambda *a: label_log_odds(*a, extras=extras))(hidden, kernel, labels, weights)
    lse = np.log(np.exp(z).sum(axis=1))
    logp = z - lse[:, None]
    mean = (np.exp(logp) * logp).sum(axis=1)
    others = z.copy()
    others[np.arange(n), labels] = -np.inf
    expected = {
        "log_odds": oracle(z, labels)[0],
        "label_logit": z[np.arange(n), labels],
        "logsumexp": lse,
        "top_other": others.max(axis=1),
        "logit_mean": z.mean(axis=1),
        "logprob_mean": mean,
        "logprob_var": (np.exp(logp) * (logp - mean[:, None]) ** 2).sum(axis=1),
    }
    for name, values in expected.items():
        got = np.asarray(getattr(stats, name))
        np.testing.assert_allclose(got[:-1], values[:-1], rtol=1e-5, atol=1e-5, err_msg=name)
        assert got[-1] == 0, name
    assert stats.hit.tolist() == [True, *(z.argmax(axis=1) == labels)[1:-1], False]


def test_an_equal_distribution_has_no_variance():
    stats = label_log_odds(
        jnp.ones((1, 1)),
        jnp.full((4096, 1), 3.0),
        jnp.array([7]),
        jnp.ones(1),
        extras=("logprob_moments",),
    )
    assert float(stats.logprob_mean[0]) == pytest.approx(-np.log(4096), rel=1e-6)
    assert float(stats.logprob_var[0]) <= 1e-9


def test_an_unknown_extra_is_refused():
    with pytest.raises(ValueError, match="unknown extra 'hits'; known: hit, logit_mean"):
        label_log_odds(
            jnp.ones((1, 2)),
            jnp.ones((3, 2)),
            jnp.zeros(1, jnp.int32),
            jnp.ones(1),
            extras=("hits",),
        )


def compiled(n, d, v, *, train_head=True, **ways):
    def loss(hidden, kernel, labels, weights):
        return head_loss(hidden, kernel, labels, weights, weighted_phi, aux=weights, **ways)[0]

    shapes = [
        jax.ShapeDtypeStruct(shape, dtype)
        for shape, dtype in (
            ((n, d), jnp.float32),
            ((v, d), jnp.float32),
            ((n,), jnp.int32),
            ((n,), jnp.float32),
        )
    ]
    step = jax.value_and_grad(loss, argnums=(0, 1) if train_head else 0)
    return jax.jit(step).lower(*shapes).compile()


@pytest.mark.parametrize(("keep", "megabytes"), [(None, 300), (False, 50)])
def test_temporary_memory_at_a_real_vocabulary(keep, megabytes):
    made = compiled(2048, 1024, 128256, keep=keep)
    assert made.memory_analysis().temp_size_in_bytes <= megabytes * 1e6


def test_with_a_frozen_head_no_array_of_its_size_is_made():
    made = compiled(64, 256, 5000, train_head=False)
    size = 4 * 256 * 5000
    assert made.memory_analysis().temp_size_in_bytes < size
    # Two matmuls a block: logits, and the gradient of the hidden states.
    assert made.as_text().count("5000,256]{1,0} parameter") >= 1
    assert "f32[5000,256]{1,0} broadcast" not in made.as_text()


def test_tokens_that_do_not_count_cost_no_matmul(monkeypatch):
    """The trip count of the loop over chunks follows the tokens that count."""
    monkeypatch.setattr("unilogit_jax.ops.blocks.CHUNK", {True: 8, False: 8})
    seen = []

    def phi(m, aux):
        jax.debug.callback(lambda: seen.append(1))
        return weighted_phi(m, aux)

    def loss(hidden, weights):
        labels = jnp.zeros(64, jnp.int32)
        return head_loss(hidden, jnp.ones((5, 4)), labels, weights, phi, aux=weights)[0]

    weights = jnp.zeros(64).at[jnp.array([3, 17, 40])].set(1.0)
    jax.block_until_ready(jax.jit(jax.grad(loss))(jnp.ones((64, 4)), weights))
    jax.effects_barrier()
    assert len(seen) == 1, "three tokens fill one chunk of eight"


def test_bfloat16_states_sum_in_float32(rng):
    n, d, v = 16, 64, 200
    hidden = jnp.asarray(rng.normal(size=(n, d)), jnp.bfloat16)
    kernel = jnp.asarray(rng.normal(size=(v, d)), jnp.bfloat16)
    labels = jnp.asarray(rng.integers(0, v, n), jnp.int32)
    (value, stats), grads = jax.value_and_grad(
        lambda *a: head_loss(*a, labels, jnp.ones(n), weighted_phi, aux=jnp.ones(n)),
        argnums=(0, 1),
        has_aux=True,
    )(hidden, kernel)
    z = np.asarray(hidden, np.float64) @ np.asarray(kernel, np.float64).T
    m, q = oracle(z, np.asarray(labels))
    np.testing.assert_allclose(stats.log_odds, m, rtol=1e-4, atol=1e-4)
    assert value.dtype == jnp.float32
    assert [g.dtype for g in grads] == [jnp.bfloat16, jnp.bfloat16]
    slope = -1 / (1 + np.exp(m))
    dz = slope[:, None] * (np.eye(v)[np.asarray(labels)] - q)
    wanted = dz @ np.asarray(kernel, np.float64)
    error = np.linalg.norm(np.asarray(grads[0], np.float64) - wanted) / np.linalg.norm(wanted)
    assert error <= 2e-2


def test_a_plan_keeps_logits_where_they_fit():
    assert make_plan(2048, 128256) == Plan(512, 2048, True)
    assert make_plan(100, 50) == Plan(100, 50, True)
    assert make_plan(10_000, 128256, budget=10**8) == Plan(1024, 2048, False)
    assert make_plan(2048, 128256, keep=False) == Plan(1024, 2048, False)


def test_works_under_vmap_and_without_tokens_that_count(rng):
    hidden = jnp.asarray(rng.normal(size=(3, 6, 4)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(9, 4)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 9, (3, 6)), jnp.int32)
    weights = jnp.ones((3, 6)).at[1].set(0.0)

    def loss(hidden, labels, weights):
        return head_loss(hidden, kernel, labels, weights, weighted_phi, aux=weights)[0]

    values, grads = jax.vmap(jax.value_and_grad(loss))(hidden, labels, weights)
    for i in range(3):
        value, grad = jax.value_and_grad(loss)(hidden[i], labels[i], weights[i])
        assert float(values[i]) == pytest.approx(float(value), rel=1e-6)
        np.testing.assert_allclose(grads[i], grad, rtol=1e-5, atol=1e-6)
    assert float(values[1]) == 0 and not np.any(grads[1])
