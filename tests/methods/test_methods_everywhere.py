# SPDX-License-Identifier: Apache-2.0
"""Losses over all positions of a row, and teachers without the label: ME, DELETE, compat modes."""

from dataclasses import replace
from itertools import cycle

import jax.numpy as jnp
import numpy as np
import pytest
from methods_rig import ROWS, V, check, log_odds, loss_and_slopes, make, retain_nll, softmax

from unilogit_jax.methods import Delete, GradDiff, Me, Undial
from unilogit_jax.types import FORGET, RETAIN


def all_positions(made, which):
    """Logits, reference's, labels of all positions of a set, the question's too."""
    on = np.asarray(made.batch.sets) == which
    return (
        made.logits[on].astype(np.float64),
        made.ref_logits[on].astype(np.float64),
        np.asarray(made.batch.labels)[on],
    )


def me(made):
    z, _, _ = all_positions(made, FORGET)
    return (-np.log(V) - np.log(softmax(z)).mean(-1)).mean()


@pytest.mark.parametrize("sure", [0.0, 4.0])
def test_me_is_the_divergence_from_uniform_at_every_position(sure):
    check(Me(), make(sure=sure), lambda m: 0.1 * me(m) + retain_nll(m))
    method = Me(forget_weight=2.0, retain_weight=0.0)
    check(method, make(sure=sure), lambda m: 2 * me(m))


def test_the_gradient_of_me_is_p_minus_uniform_by_the_number_of_positions():
    made = make()
    on = np.asarray(made.batch.sets) == FORGET
    _, slopes, _ = loss_and_slopes(Me(forget_weight=1.0), made)
    wanted = (softmax(made.logits[on].astype(np.float64)) - 1 / V) / on.sum()
    np.testing.assert_allclose(slopes[on], wanted, rtol=1e-4, atol=1e-7)
    assert on.sum() > (np.asarray(made.batch.weights)[on] > 0).sum()


def without_label(ref, y):
    return softmax(np.where(np.eye(V)[y] > 0, -np.inf, ref))


def delete(made):
    values = []
    for z, ref, y in made.of(FORGET):
        t = without_label(ref, y)
        log_t = np.log(np.where(t > 0, t, 1.0))
        values.append((t * (log_t - np.log(softmax(z)))).sum(-1))
    return np.concatenate(values).mean()


@pytest.mark.parametrize("sure", [0.0, 5.0])
def test_delete_is_the_divergence_from_the_start_model_without_the_label(sure):
    check(Delete(), make(sure=sure), lambda m: delete(m) + retain_nll(m))


def test_delete_is_exact_for_impossible_and_memorised_labels():
    """Its gradient is p - t, and the label's entry is p itself."""
    made = make()
    labels = np.asarray(made.batch.labels)
    logits, ref = made.logits.copy(), made.ref_logits.copy()
    wanted = cycle([40.0, -30.0, 25.0, -8.0, 16.0, 0.0, 8.0])
    for b, t in np.argwhere(labels >= 0):
        m = next(wanted)
        for z in (logits, ref):
            z[b, t, labels[b, t]] += m - log_odds(z[b, t], labels[b, t])
    made = replace(
        made,
        logits=logits,
        ref_logits=ref,
        batch=replace(made.batch, ref_hidden=jnp.asarray(ref)),
    )
    value, slopes, _ = loss_and_slopes(Delete(retain_weight=0.0), made)
    assert value == pytest.approx(delete(made), rel=1e-5, abs=1e-6)
    count = sum(len(y) for _, _, y in made.of(FORGET))
    for b in range(ROWS):
        for t in np.flatnonzero(np.asarray(made.batch.weights)[b]):
            y, z = labels[b, t], logits[b, t].astype(np.longdouble)
            p = softmax(z)
            target = without_label(ref[b, t][None].astype(np.longdouble), labels[b, t : t + 1])[0]
            own = slopes[b, t] * count
            np.testing.assert_allclose(own[y], p[y], rtol=1e-5)
            others = np.arange(V) != y
            np.testing.assert_allclose(own[others], (p - target)[others], atol=1e-5 * target.max())


def undial(made, beta):
    z, ref, y = all_positions(made, FORGET)
    # The mark for no label, used as an index, counts from the end.
    marked = np.eye(V)[np.where(y < 0, V - 100 % V, y) % V]
    return -(softmax(ref - beta * marked) * np.log(softmax(z))).sum(-1).mean()


@pytest.mark.parametrize("beta", [3.0, 10.0])
def test_undial_as_in_open_unlearning_counts_every_position_and_marks_a_token(beta):
    method = Undial(beta=beta, compat="open_unlearning", retain_weight=0.5)
    check(method, make(), lambda m: undial(m, beta) + 0.5 * retain_nll(m))


@pytest.mark.parametrize("compat", ["none", "open_unlearning"])
def test_undial_without_lowering_has_no_gradient_at_the_start_model(compat):
    made = make()
    made = replace(made, logits=made.ref_logits)
    method = Undial(beta=0.0, compat=compat, retain_weight=0.0)
    assert abs(loss_and_slopes(method, made)[1]).max() < 1e-7
    assert abs(loss_and_slopes(replace(method, beta=3.0), made)[1]).max() > 1e-3


def kl_everywhere(made):
    z, ref, _ = all_positions(made, RETAIN)
    t = softmax(ref)
    return (t * np.log(t / softmax(z))).sum(-1).mean()


def test_the_retain_divergence_of_open_unlearning_counts_every_position():
    made = make()
    forget, _, _ = loss_and_slopes(GradDiff(retain_weight=0.0), made)
    method = GradDiff(forget_weight=0.0, retain="kl_open_unlearning", retain_weight=1.5)
    check(method, made, lambda m: 1.5 * kl_everywhere(m))
    both, _, metrics = loss_and_slopes(replace(method, forget_weight=1.0), made)
    assert both == pytest.approx(forget + 1.5 * kl_everywhere(made), rel=1e-5)
    assert metrics["retain_loss"] == pytest.approx(1.5 * kl_everywhere(made), rel=1e-5)
