# SPDX-License-Identifier: Apache-2.0
"""The options of Unilogit against the formulas in float64, their identities and their limits."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from methods_rig import (
    OPTIONS,
    TOP,
    V,
    check,
    log_odds,
    logprobs,
    loss_and_slopes,
    make,
    retain_nll,
    softmax,
    stored,
    unilogit,
)

from unilogit_jax.methods import Undial, Unilogit
from unilogit_jax.types import FORGET

DIRECTIONS = ("forward", "reverse", "reverse_full")


def kl(a, b):
    return (a * np.log(a / b)).sum(-1)


def halves(p):
    return np.stack([p, 1 - p], -1)


def tau_of(method, made, p0):
    """The label probability that targets are to have, [n]; what `select` compares with."""
    if method.tau == "uniform":
        return np.full(len(p0), 1 / V)
    if isinstance(method.tau, float):
        return np.full(len(p0), method.tau)
    taus = made.taus()
    return taus if method.tau == "own" else np.minimum(np.maximum(taus, 1 / V), p0)


def groups(z, y, tokens):
    """Probabilities of label, stored tokens and all others, [n, 2 + k]."""
    p = softmax(z)
    label = p[np.arange(len(y)), y][:, None]
    picked = np.take_along_axis(p, tokens, -1)
    return np.concatenate([label, picked, 1 - label - picked.sum(-1, keepdims=True)], -1)


def oracle(method, top=TOP):
    """The loss that the definitions give, tokens beyond the `top` likeliest as one group."""

    def sequence(z, y):
        n, p = len(y), np.exp(logprobs(z, y).sum())
        return kl(halves(p), halves(float(V) ** -n)) / n

    def loss(made):
        rows = made.of(FORGET)
        if method.unit == "sequence":
            forget = np.mean([sequence(z, y) for z, _, y in rows])
            return method.forget_weight * forget + method.retain_weight * retain_nll(made)
        z, ref, y = (np.concatenate(x) for x in zip(*rows, strict=True))
        tokens = stored(ref, y, top)[0]
        p, p0 = groups(z, y, tokens), groups(ref, y, tokens)
        tau = tau_of(method, made, p0[:, 0])
        chosen = p0[:, 0] > 2 * tau if method.select else np.ones(len(y), bool)
        aim = np.full(len(y), 1 / V) if method.select else tau
        q, q0 = (x[:, 1:] / (1 - x[:, :1]) for x in (p, p0))
        binary = kl(halves(p[:, 0]), halves(aim))
        if method.alternatives == "current":
            back = kl(halves(aim), halves(p[:, 0]))
            values = back if method.direction == "forward" else binary
        else:
            target = np.concatenate([aim[:, None], (1 - aim[:, None]) * q0], -1)
            values = {
                "forward": kl(target, p),
                "reverse": binary + kl(q0, q),
                "reverse_full": kl(p, target),
            }[method.direction]
        forget = np.where(chosen, values, kl(p0, p)).mean()
        return method.forget_weight * forget + method.retain_weight * retain_nll(made)

    return loss


@pytest.mark.parametrize("name", OPTIONS)
def test_value_and_gradient_are_those_of_the_formula(name):
    method = unilogit(name)
    check(method, make(), oracle(method))


@pytest.mark.parametrize("name", OPTIONS)
def test_numbers_of_the_log_are_the_loss_and_both_likelihoods(name):
    check_numbers(unilogit(name))


@pytest.mark.parametrize("name", ["own", "initial-forward", "select", "sequence"])
def test_numbers_of_the_log_without_a_forget_loss(name):
    check_numbers(Unilogit(**OPTIONS[name], forget_weight=0.0))


def check_numbers(method):
    made = make(3)
    value, slopes, metrics = loss_and_slopes(method, made)
    nll = -np.concatenate([logprobs(z, y) for z, _, y in made.of(FORGET)]).mean()
    assert metrics["forget_nll"] == pytest.approx(nll, rel=1e-5)
    assert metrics["retain_nll"] == pytest.approx(retain_nll(made), rel=1e-5)
    assert metrics["loss"] == pytest.approx(value, rel=1e-5)
    off = np.asarray(made.batch.weights) == 0
    assert (slopes[off] == 0).all()


@pytest.mark.parametrize("name", ["own-forward", "select", "select-initial", "sequence"])
@pytest.mark.parametrize("sure", [8.0, 20.0])
def test_memorised_tokens_keep_their_digits(name, sure):
    # The oracle's 1 - p loses what is looked for; a factor of at most V is left of the scale.
    made, method = make(2, sure=sure), Unilogit(**OPTIONS[name], retain_weight=0.0)
    low = jnp.minimum(made.batch.logit_tau, -2.0)
    made = replace(made, batch=replace(made.batch, logit_tau=low))
    value, slopes, _ = loss_and_slopes(method, made)
    z, y = made.logits.astype(np.float64), np.asarray(made.batch.labels)
    label = np.take_along_axis(slopes, np.clip(y, 0, None)[..., None], -1)[..., 0]
    on = (np.asarray(made.batch.sets) == FORGET) & (y >= 0)
    m = log_odds(z, y)
    count, logit_u = on.sum(), -np.log(V - 1)
    p, not_p = 1 / (1 + np.exp(-m)), 1 / (1 + np.exp(m))
    if name == "sequence":
        wanted = np.zeros_like(m)
        for b in np.flatnonzero(on.any(1)):
            n = on[b].sum()
            nll = np.log1p(np.exp(-m[b][on[b]])).sum()
            logit = -nll - np.log(-np.expm1(-nll))
            logit_goal = -n * np.log(V) - np.log1p(-(float(V) ** -n))
            wanted[b] = np.exp(-nll) * (logit - logit_goal) / n * not_p[b]
        wanted = wanted / on.any(1).sum()
    elif name == "own-forward":
        tau = 1 / (1 + np.exp(-np.asarray(made.batch.logit_tau, np.float64)))
        wanted = (p - tau) / count
    else:
        # Every label is far above 2 tau: none is left to the start model.
        wanted = (p * not_p * (m - logit_u) if name == "select" else p - 1 / V) / count
    assert np.isfinite(value)
    np.testing.assert_allclose(label[on], wanted[on], rtol=3e-5, atol=0)


def same(one, other, made):
    a, slopes, _ = loss_and_slopes(one, made)
    b, others, _ = loss_and_slopes(other, made)
    assert a == pytest.approx(b, rel=2e-6, abs=2e-6)
    np.testing.assert_allclose(slopes, others, atol=2e-6)


def test_undial_is_the_forward_family_with_a_constant_drop_of_the_log_odds():
    made = make(top=V - 1)
    known = made.batch.ref_log_odds
    lowered = replace(made, batch=replace(made.batch, logit_tau=known - 3.0))
    family = Unilogit(tau="own", alternatives="initial", direction="forward", top_k=V - 1)
    _, slopes, _ = loss_and_slopes(family, lowered)
    _, others, _ = loss_and_slopes(Undial(beta=3.0), lowered)
    np.testing.assert_allclose(slopes, others, atol=2e-6)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_all_tokens_stored_is_the_whole_teacher(direction):
    method = Unilogit(alternatives="initial", direction=direction, tau="own", top_k=V - 1)
    made = make(top=V - 1)
    check(method, made, whole_teacher(method))


def whole_teacher(method):
    """The same divergences from the start model's whole distribution, no group in it."""

    def loss(made):
        z, ref, y = (np.concatenate(x) for x in zip(*made.of(FORGET), strict=True))
        others = np.arange(V) != y[:, None]
        p, p0 = softmax(z), softmax(ref)
        tau = made.taus()
        q, q0 = (np.where(others, x, 0) for x in (p, p0))
        q, q0 = (x / x.sum(-1, keepdims=True) for x in (q, q0))
        target = np.where(others, (1 - tau[:, None]) * q0, tau[:, None])
        picked = np.arange(len(y)), y
        spread = np.where(others, q0 * np.log(np.where(others, q0 / np.where(others, q, 1), 1)), 0)
        binary = kl(halves(p[picked]), halves(tau))
        values = {
            "forward": kl(target, p),
            "reverse": binary + spread.sum(-1),
            "reverse_full": kl(p, target),
        }[method.direction]
        return values.mean() + retain_nll(made)

    return loss


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_with_its_own_alternatives_nothing_is_held(direction):
    # At the start q = q0: value and label slope are those of the plain loss, the rest adds none.
    made = make()
    at_start = replace(made, logits=made.ref_logits)
    same(
        Unilogit(direction=direction),
        Unilogit(direction=direction, alternatives="initial", top_k=TOP),
        at_start,
    )


def test_a_sequence_of_one_token_is_that_token():
    made = make()
    batch, on = made.batch, np.asarray(made.batch.weights) > 0
    first = on & (np.cumsum(on, 1) == 1)
    keep = np.where(np.asarray(batch.sets) == FORGET, first, on)
    labels = jnp.where(keep, batch.labels, -100)
    batch = replace(batch, weights=jnp.asarray(keep, jnp.float32), labels=labels)
    same(Unilogit(), Unilogit(unit="sequence"), replace(made, batch=batch))


@pytest.mark.parametrize("options", [{}, {"alternatives": "initial"}], ids=["current", "initial"])
def test_selection_of_all_or_nothing(options):
    made, k = make(top=V - 1), {"top_k": V - 1, "direction": "forward"}
    low = replace(made, batch=replace(made.batch, logit_tau=jnp.full_like(made.batch.weights, -50)))
    select = Unilogit(select=True, tau="own", **options, **k)
    same(select, Unilogit(**options, **k), low)
    high = replace(made, batch=replace(made.batch, logit_tau=jnp.full_like(made.batch.weights, 50)))
    value, slopes, _ = loss_and_slopes(replace(select, retain_weight=0.0), high)
    z, ref, _ = (np.concatenate(x) for x in zip(*made.of(FORGET), strict=True))
    assert value == pytest.approx(kl(softmax(ref), softmax(z)).mean(), rel=1e-5)
    on = (np.asarray(made.batch.sets) == FORGET) & (np.asarray(made.batch.weights) > 0)
    wanted = (softmax(z) - softmax(ref)) / len(z)
    np.testing.assert_allclose(slopes[on], wanted, atol=1e-6)


def test_a_counted_tau_is_no_less_than_uniform_and_no_more_than_at_first():
    made = make(sure=3.0)
    p0 = np.concatenate([np.exp(logprobs(ref, y)) for _, ref, y in made.of(FORGET)])
    for given, wanted in ((-60.0, np.minimum(1 / V, p0)), (60.0, p0)):
        given = jnp.full_like(made.batch.weights, given)
        batch = replace(made.batch, logit_tau=given)
        at = replace(made, batch=replace(batch, logit_tau=jnp.asarray(logit_of(made, wanted))))
        value, slopes, _ = loss_and_slopes(Unilogit(tau="ngram"), replace(made, batch=batch))
        again, others, _ = loss_and_slopes(Unilogit(tau="own"), at)
        assert value == pytest.approx(again, rel=1e-4)
        np.testing.assert_allclose(slopes, others, atol=1e-5)


def logit_of(made, p):
    """Log-odds of probabilities of the forget tokens, at their places."""
    batch = made.batch
    on = (np.asarray(batch.sets) == FORGET) & (np.asarray(batch.weights) > 0)
    values = np.zeros(on.shape, np.float32)
    values[on] = np.log(p) - np.log1p(-p)
    return values


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tau": 1.5}, "tau=1.5 is outside"),
        ({"tau": 0.0}, "tau=0.0 is outside"),
        ({"tau": 0.0, "direction": "forward", "select": True}, "tau=0.0 is outside"),
        ({"tau": "other"}, "'other'"),
        ({"top_k": 0}, "top_k=0"),
        ({"tau": "reference"}, "tau_weights go together"),
        ({"tau_weights": "x"}, "tau_weights go together"),
        ({"direction": "reverse_full"}, "reverse_full needs alternatives=initial"),
        ({"select": True, "alternatives": "initial"}, "needs direction=forward"),
        ({"unit": "sequence", "direction": "forward"}, "unit=sequence"),
        ({"unit": "sequence", "tau": 0.1}, "unit=sequence"),
        ({"unit": "sequence", "alternatives": "initial"}, "unit=sequence"),
        ({"unit": "sequence", "select": True}, "unit=sequence"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, words):
    # Where types are checked at run time, that check comes first.
    with pytest.raises((ValueError, TypeError), match=words):
        Unilogit(**options)


def test_a_missing_array_is_named():
    made = make()
    bare = replace(made, batch=replace(made.batch, logit_tau=None))
    with pytest.raises(ValueError, match="tau=own needs logit_tau"):
        loss_and_slopes(Unilogit(tau="own"), bare)


def test_forward_with_tau_zero_is_unlikelihood():
    def oracle(made):
        p = np.concatenate([np.exp(logprobs(z, y)) for z, _, y in made.of(FORGET)])
        return -np.log1p(-p).mean() + retain_nll(made)

    check(Unilogit(tau=0.0, direction="forward"), make(), oracle)


def test_null_is_uniform():
    same(Unilogit(), Unilogit(tau=None), make())
