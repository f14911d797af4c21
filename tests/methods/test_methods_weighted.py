# SPDX-License-Identifier: Apache-2.0
"""Losses of single tokens: ascent, its weights, unlikelihood and CE-U, against their formulas."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from methods_rig import V, check, logprobs, loss_and_slopes, make, retain_nll, softmax

from unilogit_jax.methods import CeU, GradAscent, GradDiff, KlMin, SatImp, Unlikelihood, Wga
from unilogit_jax.train import weighed
from unilogit_jax.types import FORGET, IGNORE, RETAIN, Batch


def tokens(made, f, which=FORGET):
    return np.concatenate([f(*row) for row in made.of(which)])


def ascent(made):
    return tokens(made, lambda z, _, y: logprobs(z, y)).mean()


def weighted(made, b1, b2):
    """The weights are those of `made`, whatever logits the loss is taken at: no gradient."""
    p = np.exp(tokens(made, lambda z, _, y: logprobs(z, y)))
    weights = p**b1 * (1 - p) ** b2

    return lambda m: (weights * tokens(m, lambda z, _, y: logprobs(z, y))).mean()


def unlikelihood(made):
    return tokens(made, lambda z, _, y: -np.log1p(-np.exp(logprobs(z, y)))).mean()


def kl_retain(made):
    def one(z, ref, _):
        t = softmax(ref)
        return (t * np.log(t / softmax(z))).sum(-1)

    return tokens(made, one, RETAIN).mean()


def test_gradient_ascent_is_the_log_likelihood_and_retains_nothing():
    check(GradAscent(), make(), ascent)
    check(GradAscent(retain_weight=2.0), make(), lambda m: ascent(m) + 2 * retain_nll(m))
    assert GradAscent().retain_weight == 0


def test_kl_min_keeps_the_distribution_of_retain_answers():
    check(KlMin(), make(), lambda m: ascent(m) + kl_retain(m))


@pytest.mark.parametrize("sure", [0.0, 4.0])
def test_weighted_ascent_has_weights_without_gradient(sure):
    made = make(sure=sure)
    for beta in (1.0, 0.3):
        loss = weighted(made, beta, 0.0)
        check(Wga(beta=beta), made, lambda m, f=loss: f(m) + retain_nll(m))
    loss = weighted(made, 5.0, 1.0)
    check(SatImp(), made, lambda m: 0.1 * loss(m) + retain_nll(m))
    other = weighted(made, 0.5, 2.0)
    method = SatImp(beta1=0.5, beta2=2.0, forget_weight=3.0, retain_weight=0.5)
    check(method, made, lambda m: 3 * other(m) + 0.5 * retain_nll(m))


@pytest.mark.parametrize("sure", [0.0, 4.0])
def test_unlikelihood_is_the_formula(sure):
    check(Unlikelihood(), make(sure=sure), lambda m: unlikelihood(m) + retain_nll(m))


def test_exponents_of_zero_are_gradient_ascent():
    made = make()
    value, slopes, _ = loss_and_slopes(GradDiff(), made)
    for method in (Wga(beta=0.0), SatImp(beta1=0.0, beta2=0.0, forget_weight=1.0)):
        same, own, _ = loss_and_slopes(method, made)
        assert same == pytest.approx(value, rel=1e-6)
        np.testing.assert_allclose(own, slopes, atol=1e-7)


@pytest.mark.parametrize("method", [GradAscent(), KlMin(), Wga(), SatImp(), Unlikelihood(), CeU()])
def test_labels_of_forget_answers_are_pushed_down(method):
    made = make()
    _, slopes, _ = loss_and_slopes(method, made)
    batch = weighed(method, made.batch)
    on = (np.asarray(batch.sets) == FORGET) & (np.asarray(batch.weights) > 0)
    assert on.any()
    for b, t in np.argwhere(on):
        # A step of descent lowers the label, raises all others.
        label = int(batch.labels[b, t])
        assert slopes[b, t, label] > 0 and (np.delete(slopes[b, t], label) < 0).all()


def ce_u(made, skip):
    """CE(softmax(z with z_y = -inf), p) - its entropy, the target held fixed at `made`."""

    def target(z, y):
        t = softmax(np.where(np.eye(V)[y] > 0, -np.inf, z))
        return t, -(t * np.log(np.where(t > 0, t, 1.0))).sum(-1)

    held = [target(z, y) for z, _, y in made.of(FORGET)]

    def loss(m):
        values = []
        for (t, entropy), (z, _, _) in zip(held, m.of(FORGET), strict=True):
            values.append(-(t * np.log(softmax(z))).sum(-1) - entropy)
        return np.mean(np.concatenate([v[skip:] for v in values]))

    return loss


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("sure", [0.0, 4.0])
def test_ce_u_is_the_cross_entropy_against_itself_without_the_label(skip, sure):
    made = make(sure=sure)
    loss = ce_u(made, skip)
    check(CeU(skip_first=bool(skip)), made, loss)
    method = CeU(skip_first=bool(skip), retain_weight=2.0, forget_weight=0.5)
    check(method, made, lambda m: 0.5 * loss(m) + 2 * retain_nll(m))


def test_the_gradient_of_ce_u_is_that_of_unlikelihood():
    made = make()
    _, slopes, _ = loss_and_slopes(CeU(skip_first=False), made)
    _, other, _ = loss_and_slopes(Unlikelihood(retain_weight=0.0), made)
    np.testing.assert_array_equal(slopes, other)


def packed_row(segments, sets, on):
    segments, sets, on = (np.array([x]) for x in (segments, sets, on))
    return Batch(
        tokens=jnp.zeros(on.shape, jnp.int32),
        labels=jnp.asarray(np.where(on, 1, IGNORE), jnp.int32),
        segments=jnp.asarray(segments, jnp.int32),
        positions=jnp.zeros(on.shape, jnp.int32),
        sets=jnp.asarray(sets, jnp.int32),
        weights=jnp.asarray(on, jnp.float32),
        num_segments=int(segments.max()) + 1,
    )


def test_ce_u_skips_the_first_token_of_each_forget_answer_of_a_packed_row():
    f, r = FORGET, RETAIN
    batch = packed_row(
        #         answer at once | question first | retained  | one token | two turns, padding
        segments=[1, 1, 1, 2, 2, 2, 2, 5, 5, 5, 3, 3, 4, 4, 4, 4, 4, 0, 0],
        sets=[f, f, f, f, f, f, f, r, r, r, f, f, f, f, f, f, f, 0, 0],
        on=[1, 1, 1, 0, 0, 1, 1, 0, 1, 1, 0, 1, 0, 1, 1, 0, 1, 0, 0],
    )
    kept = [0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0]
    np.testing.assert_array_equal(np.asarray(weighed(CeU(), batch).weights)[0], kept)
    np.testing.assert_array_equal(weighed(CeU(skip_first=False), batch).weights, batch.weights)


def test_ce_u_without_a_second_token_anywhere_is_zero():
    made = make()
    labels = np.asarray(made.batch.labels)
    first = np.cumsum(labels >= 0, axis=1) == 1
    on = np.where(np.asarray(made.batch.sets) == FORGET, first & (labels >= 0), labels >= 0)
    batch = replace(made.batch, weights=jnp.asarray(on, jnp.float32))
    value, slopes, _ = loss_and_slopes(CeU(), replace(made, batch=batch))
    assert value == 0 and not slopes.any()
