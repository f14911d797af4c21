# SPDX-License-Identifier: Apache-2.0
"""Weighted ascent, unlikelihood and the inverted hinge: accuracy, limits, the same in torch."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from losses_oracle import logits_with_log_odds, logsumexp, true_log_odds

from unilogit_jax.losses import (
    grad_ascent,
    ihl,
    satimp,
    satimp_from_log_odds,
    undial,
    unilogit,
    unlikelihood,
    wga,
)

pytestmark = pytest.mark.usefixtures("strict_dtypes")
M = np.array([-30, -20, -12, -5, -1, 0, 1, 5, 9, 14, 16, 18, 25, 40.0])


def values_and_grads(loss, z, labels):
    @jax.jit
    def run(z):
        values, vjp = jax.vjp(lambda z: loss(z, jnp.asarray(labels)), z)
        return values, vjp(jnp.ones_like(values))[0]

    return (np.asarray(x, np.float64) for x in run(jnp.asarray(z)))


def log_parts(m):
    """log p and log(1 - p), float64."""
    return -np.logaddexp(0, -m), -np.logaddexp(0, m)


def ascent(b1, b2):
    def value_and_slope(m):
        log_p, log_not = log_parts(m)
        weight = np.exp(b1 * log_p + b2 * log_not)
        return weight * log_p, weight * np.exp(log_not)

    return value_and_slope


CASES = {
    "wga": (wga, ascent(1.0, 0.0)),
    "wga-half": (partial(wga, beta=0.5), ascent(0.5, 0.0)),
    "satimp": (satimp, ascent(5.0, 1.0)),
    "satimp-half": (partial(satimp, beta1=0.5, beta2=0.25), ascent(0.5, 0.25)),
    "unlikelihood": (unlikelihood, lambda m: (-log_parts(m)[1], np.exp(log_parts(m)[0]))),
}


@pytest.mark.parametrize("vocab_size", [2, 1000])
@pytest.mark.parametrize("case", CASES)
def test_a_loss_equals_float64_from_impossible_to_memorised_labels(rng, case, vocab_size):
    loss, oracle = CASES[case]
    z, labels = logits_with_log_odds(rng, M, vocab_size)
    wide = z.astype(np.float64)
    value, slope = oracle(true_log_odds(wide, labels))
    values, grad = values_and_grads(loss, z, labels)
    np.testing.assert_allclose(values, value, rtol=1e-5, atol=1e-37)
    # w (e_y - q): w at the label, nothing that cancels elsewhere.
    rows = np.arange(len(M))
    wide[rows, labels] = -np.inf
    wanted = -np.exp(wide - logsumexp(wide)[:, None])
    wanted[rows, labels] = 1.0
    np.testing.assert_allclose(grad, wanted * slope[:, None], rtol=1e-5, atol=1e-37)


@pytest.mark.parametrize("margin", [1.0, 0.5])
def test_the_inverted_hinge_equals_float64_from_impossible_to_memorised_labels(rng, margin):
    z, labels = logits_with_log_odds(rng, M, 50)
    wide, rows = z.astype(np.longdouble), np.arange(len(M))
    m = true_log_odds(wide, labels)
    log_p, log_not = log_parts(m)
    others = wide.copy()
    others[rows, labels] = -np.inf
    q = np.exp(others - logsumexp(others)[:, None])
    best, p, not_p = q.argmax(-1), np.exp(log_p), np.exp(log_not)
    rival = q[rows, best] * not_p
    value = np.maximum(0, margin + p - rival)
    # dp_y = p (1-p) (e_y - q);  dp_r = p_r (e_r - p_vec)
    of_label = -q * (p * not_p)[:, None]
    of_label[rows, labels] = p * not_p
    of_rival = -q * (not_p * rival)[:, None]
    of_rival[rows, labels] = -p * rival
    of_rival[rows, best] += rival
    wanted = np.where((value > 0)[:, None], of_label - of_rival, 0)
    values, grad = values_and_grads(partial(ihl, margin=margin), z, labels)
    np.testing.assert_allclose(values, value.astype(float), rtol=1e-5, atol=1e-6)
    size = abs(wanted).max(-1)
    np.testing.assert_array_less(abs(grad - wanted).max(-1), 1e-5 * size + 1e-12)
    label = wanted[rows, labels].astype(float)
    np.testing.assert_allclose(grad[rows, labels], label, rtol=2e-5, atol=1e-37)


def test_exponents_of_zero_are_gradient_ascent(rng):
    z, labels = logits_with_log_odds(rng, M, 33)
    wanted = list(values_and_grads(grad_ascent, z, labels))
    for loss in (partial(wga, beta=0.0), partial(satimp, beta1=0.0, beta2=0.0)):
        for ours, theirs in zip(values_and_grads(loss, z, labels), wanted, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_forward_unilogit_is_unlikelihood_and_a_share_of_likelihood(rng):
    """KL(t || p) has slope p - 1/V: unlikelihood's p, and 1/V times that of m."""
    z, labels = logits_with_log_odds(rng, M[3:10], 100)
    _, forward = values_and_grads(partial(unilogit, direction="forward"), z, labels)
    _, unlikely = values_and_grads(unlikelihood, z, labels)
    _, ascends = values_and_grads(grad_ascent, z, labels)
    # -log p has slope -(1 - p):  p - u = (1 - u) p - u (1 - p).
    wanted = (1 - 0.01) * unlikely - 0.01 * ascends
    np.testing.assert_allclose(forward, wanted, rtol=1e-4, atol=1e-8)


def test_negative_exponents_are_refused():
    function = inspect.unwrap(satimp_from_log_odds)
    for wrong in ({"beta1": -1.0}, {"beta2": -0.5}):
        with pytest.raises(ValueError, match="must not be negative"):
            function(jnp.zeros(2), **wrong)


def torch_values_and_grads(loss, z):
    import torch

    z = torch.tensor(z, dtype=torch.float64, requires_grad=True)
    values = loss(z)
    values.sum().backward()
    return values.detach().numpy(), z.grad.numpy()


def torch_loss(name, labels):
    import torch
    from torch.nn import functional as F

    index = torch.tensor(labels, dtype=torch.int64)[:, None]

    def chosen(z):
        p = F.softmax(z, -1).gather(1, index)[:, 0]
        other = F.softmax(z, -1).scatter(1, index, -1.0).max(-1).values
        without = F.softmax(z.detach().scatter(1, index, -torch.inf), -1)
        return {
            "wga": lambda: p.detach() * p.log(),
            "satimp": lambda: (p**5 * (1 - p)).detach() * p.log(),
            "unlikelihood": lambda: -(1 - p).log(),
            "ihl": lambda: F.relu(1 + p - other),
            "ce_u": lambda: F.cross_entropy(z, without, reduction="none"),
        }[name]()

    return chosen


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("wga", wga),
        ("satimp", satimp),
        ("unlikelihood", unlikelihood),
        ("ihl", ihl),
        ("ce_u", unlikelihood),
    ],
)
def test_a_loss_matches_the_plain_torch_formula(rng, name, loss):
    z, labels = logits_with_log_odds(rng, np.array([-8.0, -3.0, -0.5, 0.0, 1.0, 3.0, 5.0]), 100)
    values, grad = values_and_grads(loss, z, labels)
    their_values, their_grad = torch_values_and_grads(torch_loss(name, labels), z)
    if name != "ce_u":  # its value holds an entropy that has no gradient
        np.testing.assert_allclose(values, their_values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(grad, their_grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parity
def test_undial_as_in_open_unlearning_marks_the_ignore_label_as_an_index(rng):
    import torch
    from torch.nn import functional as F

    z, ref = rng.normal(size=(2, 5, 120)).astype(np.float32) * 3
    labels = np.array([3, -100, 7, -100, 119], np.int32)

    def theirs(z):
        marked = torch.zeros_like(z)
        marked[torch.arange(5), torch.tensor(labels, dtype=torch.int64)] = 1.0
        soft = F.softmax(torch.tensor(ref, dtype=torch.float64) - 10.0 * marked, -1)
        return F.cross_entropy(z, soft, reduction="none")

    ours = values_and_grads(
        lambda z, y: undial(z, jnp.asarray(ref), y, compat="open_unlearning"), z, labels
    )
    for mine, other in zip(ours, torch_values_and_grads(theirs, z), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)
    plain = undial(jnp.asarray(z), jnp.asarray(ref), jnp.asarray(labels))
    assert plain[1] == 0 and plain[0] != 0
