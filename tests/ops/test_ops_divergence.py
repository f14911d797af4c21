# SPDX-License-Identifier: Apache-2.0
"""Divergences from a teacher: the numbers of whole distributions, without ever making them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ops_oracle import divergence as exact
from ops_oracle import logsumexp, target

from unilogit_jax.ops import (
    Divergence,
    Teacher,
    TopK,
    chunked_divergence,
    divergence_loss,
    label_log_odds,
    top_tokens,
)
from unilogit_jax.types import Head

pytestmark = pytest.mark.usefixtures("strict_dtypes")
DIRECTIONS = ["forward", "cross_entropy", "reverse", "anchored", "js"]
TARGETS = {"own": {}, "lowered": {"beta": 3.0}, "uniform": {"tau": "uniform"}, "tau": {"tau": 0.2}}
N, D, E, V, VALID = 37, 8, 6, 53, 50
KEPT = 4


@pytest.fixture
def small_cuts(monkeypatch):
    """Chunks and blocks that divide neither tokens nor columns."""
    monkeypatch.setattr("unilogit_jax.ops.blocks.CHUNK", {True: 20, False: 10})
    monkeypatch.setattr("unilogit_jax.ops.blocks.BLOCK", 16)


@pytest.fixture
def made(rng):
    """Model, teacher, labels and weights; heads with bias, cap, padding, in both layouts."""

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    side = {"hidden": normal(N, D), "kernel": normal(V, D), "bias": normal(V)}
    ref = {"hidden": normal(N, E), "kernel": normal(E, V)}
    labels = jnp.asarray(rng.integers(0, VALID, N), jnp.int32)
    weights = jnp.asarray((rng.random(N) > 0.3) * rng.random(N), jnp.float32)
    return side, ref, labels, weights


def logits(side, ref):
    z = np.asarray(side["hidden"], np.float64) @ np.asarray(side["kernel"], np.float64).T
    z = 3 * np.tanh((z + np.asarray(side["bias"], np.float64)) / 3)
    u = np.asarray(ref["hidden"], np.float64) @ np.asarray(ref["kernel"], np.float64)
    return z[:, :VALID], u[:, :VALID]


def through_head(dz, side):
    """dL/dz in float64 back through cap and head."""
    h, w = (np.asarray(side[k], np.float64) for k in ("hidden", "kernel"))
    raw = (h @ w.T + np.asarray(side["bias"], np.float64))[:, :VALID]
    dz = dz * (1 - np.tanh(raw / 3) ** 2)
    full = np.zeros((N, V))
    full[:, :VALID] = dz
    return {"hidden": full @ w, "kernel": full.T @ h, "bias": full.sum(0)}


def own_head(side):
    return Head(kernel=side["kernel"], bias=side["bias"], softcap=3.0, valid_vocab=VALID)


def teacher_of(ref):
    return Teacher(
        hidden=ref["hidden"], head=Head(kernel=ref["kernel"], layout="dv", valid_vocab=VALID)
    )


def exact_options(options):
    tau = options.get("tau")
    tau = 1 / VALID if tau == "uniform" else tau
    tau = None if tau is None else np.full(N, tau)
    return {"beta": options.get("beta", 0.0), "tau": tau}


def assert_close(got, wanted):
    for name, value in wanted.items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(got[name], value, rtol=2e-5, atol=2e-6 * scale, err_msg=name)


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
