# SPDX-License-Identifier: Apache-2.0
"""Hidden states and head to log-odds: same numbers as the full logits, inert padding, sharding."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from unilogit_jax.ops import LONGEST_ROW, HeadStats, head_loss, label_log_odds
from unilogit_jax.sharding import head_sharding, make_mesh
from unilogit_jax.types import Head

with_hits = jax.jit(partial(label_log_odds, extras=("hit",)))
pytestmark = pytest.mark.usefixtures("strict_dtypes")
T, D, V = 8, 16, 64


def arrays(rng):
    hidden = rng.normal(size=(T, D)).astype(np.float32)
    kernel = rng.normal(size=(V, D)).astype(np.float32)
    labels = rng.integers(0, V, size=T).astype(np.int32)
    return hidden, kernel, labels


def oracle(logits, labels):
    m = np.zeros(len(labels))
    for i, y in enumerate(labels):
        others = np.delete(logits[i], y)
        m[i] = logits[i, y] - np.log(np.sum(np.exp(others)))
    return m, np.argmax(logits, -1) == labels


def test_log_odds_and_hits_equal_float64_for_every_kind_of_head(rng):
    hidden, kernel, labels = arrays(rng)
    bias = rng.normal(size=V).astype(np.float32)
    z = hidden.astype(np.float64) @ kernel.T.astype(np.float64)
    labels[:3] = np.argmax(z, -1)[:3]
    capped = 5 * np.tanh(z / 5)
    heads = {
        "bare": (jnp.asarray(kernel), z),
        "vd": (Head(kernel=jnp.asarray(kernel)), z),
        "dv": (Head(kernel=jnp.asarray(kernel.T), layout="dv"), z),
        "bias": (Head(kernel=jnp.asarray(kernel), bias=jnp.asarray(bias)), z + bias),
        "cap": (Head(kernel=jnp.asarray(kernel), softcap=5.0), capped),
        "padded": (Head(kernel=jnp.asarray(kernel), valid_vocab=60), z[:, :60]),
    }
    for name, (head, logits) in heads.items():
        y = np.minimum(labels, logits.shape[-1] - 1)
        stats = with_hits(hidden, head, y, jnp.ones(T))
        m, hit = oracle(logits, y)
        np.testing.assert_allclose(stats.log_odds, m, rtol=1e-5, atol=1e-5, err_msg=name)
        np.testing.assert_array_equal(stats.hit, hit, err_msg=name)


@pytest.mark.parametrize(("dtype", "exact"), [("float32", True), ("bfloat16", False)])
def test_float32_is_multiplied_exactly_with_the_logits_and_without_them(dtype, exact):
    hidden, kernel = jnp.ones((2, 4), dtype), jnp.ones((8, 4), dtype)
    labels, weights = jnp.zeros(2, jnp.int32), jnp.ones(2)
    with jax.default_matmul_precision("default"):
        whole = jax.jit(Head(kernel=kernel).logits).lower(hidden)
        fused = jax.jit(label_log_odds).lower(hidden, kernel, labels, weights)
    assert ["HIGHEST" in program.as_text() for program in (whole, fused)] == [exact] * 2


def test_of_equal_maxima_the_first_is_the_hit():
    hidden, kernel = jnp.ones((4, 1)), jnp.array([[0.0], [2.0], [2.0]])
    stats = with_hits(hidden, kernel, jnp.array([0, 1, 2, -100]), jnp.ones(4))
    assert stats.hit.tolist() == [False, True, False, False]


def test_positions_of_weight_zero_are_inert_even_with_nan(rng):
    hidden, kernel, labels = arrays(rng)
    weights = jnp.asarray(np.arange(T) % 2, jnp.float32)

    def total(hidden, kernel):
        stats = with_hits(hidden, kernel, jnp.asarray(labels), weights)
        return jnp.sum(stats.log_odds), stats

    dirty = np.where(np.arange(T)[:, None] % 2, hidden, np.nan)
    run = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
    (_, stats), (dh, dw) = run(jnp.asarray(dirty), jnp.asarray(kernel))
    (_, clean), (clean_dh, clean_dw) = run(jnp.asarray(hidden), jnp.asarray(kernel))
    assert not np.any(stats.log_odds[::2]) and not np.any(stats.hit[::2])
    assert not np.any(dh[::2]) and np.all(np.any(dh[1::2], axis=-1))
    np.testing.assert_array_equal(stats.log_odds, clean.log_odds)
    np.testing.assert_array_equal(dh, clean_dh)
    np.testing.assert_array_equal(dw, clean_dw)


def test_bfloat16_hidden_states_give_float32_log_odds(rng):
    hidden, kernel, labels = arrays(rng)
    low = jnp.asarray(hidden, jnp.bfloat16)
    stats = with_hits(low, kernel, labels, jnp.ones(T))
    assert stats.log_odds.dtype == jnp.float32
    rounded = np.asarray(jnp.asarray(kernel, jnp.bfloat16), np.float64)
    m, _ = oracle(np.asarray(low, np.float64) @ rounded.T, labels)
    np.testing.assert_allclose(stats.log_odds, m, rtol=1e-4, atol=1e-4)


def test_stats_are_a_tree_that_jit_and_leading_axes_keep(rng):
    hidden, kernel, labels = arrays(rng)
    flat = with_hits(hidden, kernel, labels, jnp.ones(T))
    stats = with_hits(
        jnp.asarray(hidden).reshape(2, 4, D),
        jnp.asarray(kernel),
        jnp.asarray(labels).reshape(2, 4),
        jnp.ones((2, 4)),
    )
    assert isinstance(stats, HeadStats) and stats.hit.shape == (2, 4)
    np.testing.assert_allclose(stats.log_odds.ravel(), flat.log_odds, rtol=1e-5, atol=1e-5)
    assert jax.tree.leaves(jax.tree.map(lambda x: x.shape == (2, 4), stats)) == [True] * 5


def test_a_head_sharded_over_the_vocabulary_gives_the_same_numbers(rng):
    hidden, kernel, labels = arrays(rng)
    mesh = jax.make_mesh((2, 4), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    placed = [
        jax.device_put(x, NamedSharding(mesh, spec))
        for x, spec in ((hidden, P("data")), (kernel, P("tensor")), (labels, P("data")))
    ]

    @jax.jit
    def run(hidden, kernel, labels):
        def total(hidden, kernel):
            stats = with_hits(hidden, kernel, labels, jnp.ones(T))
            return jnp.sum(stats.log_odds), stats

        return jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(hidden, kernel)

    sharded = jax.tree.leaves(run(*placed))
    single = jax.tree.leaves(run(*[jnp.asarray(x) for x in (hidden, kernel, labels)]))
    for a, b in zip(sharded, single, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


# Shifted together, tokens of one answer would straddle a chunk of 512.
ROWS, LENGTH = 7, 190


def of_answers(m, aux):
    """-log sigmoid of minus the sum of log p over each answer, the first of two weighs three."""
    answers = aux

    def whole(m):
        logprobs = jnp.where(answers > 0, -jax.nn.softplus(-m), 0.0)
        sums = jax.ops.segment_sum(logprobs, answers, 2 * ROWS + 1)
        there = jax.ops.segment_sum((answers > 0).astype(jnp.float32), answers, 2 * ROWS + 1) > 0
        weights = jnp.asarray(1.0 + 2.0 * (np.arange(2 * ROWS + 1) % 2), jnp.float32)
        return jnp.sum(jnp.where(there, weights * jax.nn.softplus(0.002 * sums), 0.0))

    loss, slopes = jax.value_and_grad(whole)(m)
    return jnp.zeros_like(m).at[0].set(loss), slopes


@pytest.mark.parametrize("devices", [1, 8])
def test_losses_that_join_the_tokens_of_a_row_equal_those_of_all_log_odds(rng, devices):
    rows = ROWS if devices == 1 else 8
    hidden = jnp.asarray(rng.normal(size=(rows, LENGTH, D)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(V, D)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, V, size=(rows, LENGTH)), jnp.int32)
    # Two answers to a row, the second row has none, and every fifth token does not count.
    answers = 1 + 2 * np.arange(rows)[:, None] + (np.arange(LENGTH) > 120)
    answers[answers > 2 * ROWS] = 0
    answers[1] = 0
    answers[:, ::5] = 0
    answers = jnp.asarray(answers, jnp.int32)
    weights = (answers > 0).astype(jnp.float32)

    def at_once(hidden, kernel, sharding=None):
        kw = {"aux": answers, "whole_rows": True, "sharding": sharding}
        return head_loss(hidden, kernel, labels, weights, of_answers, **kw)[0]

    def later(hidden, kernel):
        m = label_log_odds(hidden, kernel, labels, weights).log_odds
        return jnp.sum(of_answers(m.ravel(), answers.ravel())[0])

    if devices == 8:
        mesh = make_mesh(data=2, fsdp=2, tensor=2)
        at_once = partial(at_once, sharding=head_sharding(Head(kernel=kernel), hidden.shape, mesh))
    both = [jax.jit(jax.value_and_grad(f, (0, 1)))(hidden, kernel) for f in (at_once, later)]
    assert float(both[1][0]) > 1
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-5, atol=1e-5), *both)


def test_rows_that_no_chunk_has_room_for_are_refused():
    hidden = jnp.zeros((1, LONGEST_ROW + 1, 2))
    nothing = jnp.zeros(hidden.shape[:2])
    with pytest.raises(ValueError, match=f"whole_rows takes {LONGEST_ROW}"):
        head_loss(
            hidden,
            jnp.zeros((4, 2)),
            nothing.astype(jnp.int32),
            nothing,
            of_answers,
            whole_rows=True,
        )
