# SPDX-License-Identifier: Apache-2.0
"""The inverted hinge: formula, margin, two tokens moved, memorised labels."""

from dataclasses import replace
from itertools import cycle

import numpy as np
import pytest
from methods_rig import V, check, log_odds, loss_and_slopes, make, retain_nll, softmax

from unilogit_jax.methods import Ihl
from unilogit_jax.types import FORGET

M = (40.0, -30.0, 25.0, -8.0, 16.0, 8.0)


def ihl(made, margin=1.0):
    values = []
    for z, _, y in made.of(FORGET):
        p, at = softmax(z), np.eye(V)[y] > 0
        values.append(np.maximum(0, margin + p[at] - np.where(at, -1, p).max(-1)))
    return np.concatenate(values).mean()


@pytest.mark.parametrize("sure", [0.0, 4.0])
@pytest.mark.parametrize("margin", [1.0, 0.3])
def test_inverted_hinge_is_the_formula(sure, margin):
    made = make(sure=sure)
    check(Ihl(margin=margin), made, lambda m: ihl(m, margin) + retain_nll(m))
    method = Ihl(margin=margin, forget_weight=2.0, retain_weight=0.5)
    check(method, made, lambda m: 2 * ihl(m, margin) + 0.5 * retain_nll(m))


def test_a_token_beyond_the_margin_has_no_loss_and_no_gradient():
    made, margin = make(scale=3.0), 0.4
    _, slopes, _ = loss_and_slopes(Ihl(margin=margin), made)
    _, always, _ = loss_and_slopes(Ihl(), made)
    seen = set()
    on = (np.asarray(made.batch.sets) == FORGET) & (np.asarray(made.batch.weights) > 0)
    for b, t in np.argwhere(on):
        p, y = softmax(made.logits[b, t].astype(np.float64)), int(made.batch.labels[b, t])
        beyond = np.delete(p, y).max() - p[y] > margin
        seen.add(bool(beyond))
        assert slopes[b, t].any() == (not beyond) and always[b, t].any()
    assert seen == {True, False}
    # Where every token is beyond it, nothing is left.
    far = make(sure=-8.0)
    tiny = Ihl(margin=-0.9, retain_weight=0.0)
    value, slopes, _ = loss_and_slopes(tiny, far)
    assert value == 0 and not slopes.any()


def test_the_gradient_is_exact_for_impossible_and_memorised_labels():
    made = make()
    labels, logits = np.asarray(made.batch.labels), made.logits.copy()
    on = (np.asarray(made.batch.sets) == FORGET) & (np.asarray(made.batch.weights) > 0)
    assert on.sum() >= len(M)
    for (b, t), m in zip(np.argwhere(on), cycle(M)):
        logits[b, t, labels[b, t]] += m - log_odds(logits[b, t], labels[b, t])
    made = replace(made, logits=logits)
    _, slopes, _ = loss_and_slopes(Ihl(retain_weight=0.0), made)
    for b, t in np.argwhere(on):
        y, z = labels[b, t], logits[b, t].astype(np.longdouble)
        odds = np.exp(-np.longdouble(log_odds(logits[b, t], y)))
        p, not_p = 1 / (1 + odds), odds / (1 + odds)
        q = softmax(np.delete(z, y))
        rival = q.max() * not_p
        # p_y (1 - p_y) + p_r p_y at the label: nothing that cancels.
        assert slopes[b, t, y] * on.sum() == pytest.approx(float(p * (not_p + rival)), rel=1e-5)
