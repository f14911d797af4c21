# SPDX-License-Identifier: Apache-2.0
"""Methods of whole answers and of other answers: formulas in float64 and torch, slopes, signs."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from methods_rig import V, check, logprobs, loss_and_slopes, make, retain_nll, softmax

from unilogit_jax.methods import AltPo, Dpo, Flat, Idk, IdkAp, JensUn, SimNpo
from unilogit_jax.types import ALTERNATE, FORGET, RETAIN, RETAIN_ALTERNATE


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def sums(made, which):
    """log p and log p_ref of each answer of a set."""
    return np.array(
        [(logprobs(z, y).sum(), logprobs(ref, y).sum()) for z, ref, y in made.of(which)]
    ).T


def tokens_mean(made, which, f):
    return np.mean(np.concatenate([f(*row) for row in made.of(which)]))


def simnpo(beta, delta):
    def oracle(made):
        nll = np.array([-logprobs(z, y).mean() for z, _, y in made.of(FORGET)])
        return np.mean(-2 / beta * np.log(sigmoid(beta * (nll - delta))))

    return oracle


def dpo(beta, scale):
    def oracle(made):
        (winner, ref_winner), (loser, ref_loser) = sums(made, ALTERNATE), sums(made, FORGET)
        gap = (winner - ref_winner) - (loser - ref_loser)
        return np.mean(-scale * np.log(sigmoid(beta * gap)))

    return oracle


def idk(made):
    return tokens_mean(made, ALTERNATE, lambda z, _, y: -logprobs(z, y))


def preservation(beta, weight):
    def oracle(made):
        (answer, _), (refusal, _) = sums(made, RETAIN), sums(made, RETAIN_ALTERNATE)
        return idk(made) - weight / beta * np.mean(np.log(sigmoid(beta * (answer - refusal))))

    return oracle


def flat(divergence):
    def oracle(made):
        of = {
            which: np.array([np.exp(logprobs(z, y)).mean() for z, _, y in made.of(which)])
            for which in (FORGET, ALTERNATE)
        }
        if divergence == "tv":
            return np.mean(-np.tanh(of[ALTERNATE]) / 2 + np.tanh(of[FORGET]) / 2)
        return np.mean(-of[ALTERNATE] + np.exp(of[FORGET] - 1))

    return oracle


def js(a, b):
    middle = (a + b) / 2

    def kl(x):
        return np.sum(np.where(x > 0, x * np.log(np.where(x > 0, x, 1) / middle), 0), -1)

    return (kl(a) + kl(b)) / 2


def jensun(made):
    return tokens_mean(made, ALTERNATE, lambda z, _, y: js(np.eye(V)[y], softmax(z)))


CASES = {
    "simnpo": (SimNpo(), simnpo(4.5, 0)),
    "simnpo-margin": (SimNpo(beta=0.7, delta=2.0), simnpo(0.7, 2.0)),
    "dpo": (Dpo(), dpo(0.1, 1)),
    "dpo-open-unlearning": (Dpo(beta=0.3, compat="open_unlearning"), dpo(0.3, 2 / 0.3)),
    "altpo": (AltPo(beta=0.5), dpo(0.5, 1)),
    "idk": (Idk(), idk),
    "flat-kl": (Flat(), flat("kl")),
    "flat-tv": (Flat(divergence="tv"), flat("tv")),
    "jensun": (JensUn(retain="nll"), jensun),
}


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient_are_those_of_the_formula(case):
    method, forget = CASES[case]
    for weight in (0.0, 2.5):
        chosen = replace(method, retain_weight=weight, forget_weight=0.5)
        check(chosen, make(), lambda m, w=weight: 0.5 * forget(m) + w * retain_nll(m))


@pytest.mark.parametrize("weight", [0.0, 2.5])
def test_refusals_with_answer_preservation_are_those_of_the_formula(weight):
    """The retain rows are looked at by token too if there is a retain term."""
    method = IdkAp(beta=0.3, ap_weight=0.7, retain_weight=weight)
    forget = preservation(0.3, 0.7)
    check(method, make(), lambda m: forget(m) + weight * retain_nll(m))


def test_answer_preservation_is_logged_with_what_is_kept():
    made = make()
    _, _, numbers = loss_and_slopes(IdkAp(), made)
    assert numbers["forget_loss"] == pytest.approx(idk(made), rel=1e-5)
    assert numbers["retain_loss"] == pytest.approx(
        preservation(0.1, 1.0)(made) - idk(made), rel=1e-5
    )
    assert numbers["retain_nll"] == pytest.approx(retain_nll(made), rel=1e-5)


def test_jensun_compares_the_retain_rows_with_the_start_model():
    def retain(made):
        return tokens_mean(made, RETAIN, lambda z, ref, _: js(softmax(ref), softmax(z)))

    check(JensUn(retain_weight=2.5), make(), lambda m: jensun(m) + 2.5 * retain(m))


@pytest.mark.parametrize("method", [Dpo(), IdkAp(), SimNpo(), Flat(), Idk(), JensUn(retain="nll")])
def test_only_tokens_of_the_sets_that_a_method_looks_at_get_a_gradient(method):
    made = make()
    _, slopes, numbers = loss_and_slopes(replace(method, retain_weight=0.0), made)
    needs = method.needs
    used = {FORGET} if needs.forget else set()
    used |= {ALTERNATE} if needs.alternates else set()
    used |= {RETAIN, RETAIN_ALTERNATE} if "retain_refusal" in needs.alternates else set()
    moved = np.abs(slopes).max((1, 2)) > 0
    assert {int(s) for s in np.asarray(made.batch.sets)[moved].max(1)} == used
    assert ("forget_nll" in numbers) == needs.forget
    assert ("alternate_nll" in numbers) == bool(needs.alternates)


@pytest.mark.parametrize(
    ("method", "sign"),
    [
        (SimNpo(), {FORGET: 1}),
        (Dpo(), {FORGET: 1, ALTERNATE: -1}),
        (Flat(), {FORGET: 1, ALTERNATE: -1}),
        (Flat(divergence="tv"), {FORGET: 1, ALTERNATE: -1}),
        (Idk(), {ALTERNATE: -1}),
        (JensUn(), {ALTERNATE: -1}),
        (IdkAp(), {ALTERNATE: -1, RETAIN: -1, RETAIN_ALTERNATE: 1}),
    ],
)
@pytest.mark.parametrize("sure", [0.0, 20.0])
def test_the_label_is_pushed_where_it_belongs_even_if_the_model_is_sure_of_it(method, sign, sure):
    made = make(sure=sure)
    _, slopes, _ = loss_and_slopes(method, made)
    batch = made.batch
    for which, wanted in sign.items():
        on = (np.asarray(batch.sets) == which) & (np.asarray(batch.weights) > 0)
        at_label = slopes[on, np.asarray(batch.labels)[on]]
        # Minimising moves a logit against its slope.
        assert (np.sign(at_label) == wanted).all()


def weights_of(method, made, which):
    """c of each token: dL/dz_y = c (1 - p), row by row."""
    _, slopes, _ = loss_and_slopes(method, made)
    found = []
    for b in np.flatnonzero(np.asarray(made.batch.sets)[:, 0] == which):
        on = np.asarray(made.batch.weights)[b] > 0
        y = np.asarray(made.batch.labels)[b][on]
        p = np.exp(logprobs(made.logits[b][on].astype(np.float64), y))
        found.append(slopes[b][on][np.arange(len(y)), y] / (1 - p))
    return found


def test_the_weight_of_every_token_is_that_of_the_paper():
    made = make()
    rows = made.of(FORGET)
    method = SimNpo(forget_weight=1.0, delta=1.5)
    for c, (z, _, y) in zip(weights_of(method, made, FORGET), rows, strict=True):
        nll = -logprobs(z, y).mean()
        wanted = 2 / len(y) * sigmoid(-4.5 * (nll - 1.5)) / len(rows)
        np.testing.assert_allclose(c, wanted, rtol=1e-4)
    (winner, ref_winner), (loser, ref_loser) = sums(made, ALTERNATE), sums(made, FORGET)
    fade = sigmoid(-0.1 * ((winner - ref_winner) - (loser - ref_loser)))
    for compat, scale in (("none", 0.1), ("open_unlearning", 2.0)):
        method = Dpo(compat=compat)
        for which, sign in ((FORGET, 1), (ALTERNATE, -1)):
            for c, f in zip(weights_of(method, made, which), fade, strict=True):
                np.testing.assert_allclose(c, sign * scale * f / len(rows), rtol=1e-4)


def test_swapping_winner_and_loser_flips_the_sign_within_the_sigmoid():
    made = make()
    sets = np.asarray(made.batch.sets)
    other = np.select([sets == FORGET, sets == ALTERNATE], [ALTERNATE, FORGET], sets)
    swapped = replace(made, batch=replace(made.batch, sets=jnp.asarray(other, jnp.int32)))
    (winner, ref_winner), (loser, ref_loser) = sums(made, ALTERNATE), sums(made, FORGET)
    gap = (winner - ref_winner) - (loser - ref_loser)
    for case, sign in ((made, 1), (swapped, -1)):
        value, _, _ = loss_and_slopes(Dpo(beta=0.2, retain_weight=0.0), case)
        assert value == pytest.approx(np.mean(-np.log(sigmoid(sign * 0.2 * gap))), rel=1e-5)


def test_at_the_start_model_preference_costs_log_two():
    made = make()
    at_start = replace(made, logits=made.ref_logits)
    value, _, _ = loss_and_slopes(Dpo(retain_weight=0.0), at_start)
    assert value == pytest.approx(np.log(2), rel=1e-5)


@pytest.mark.parametrize("case", ["simnpo", "dpo", "flat-kl", "flat-tv", "jensun", "idk_ap"])
def test_torch_with_autograd_agrees(case):
    import torch
    from torch.nn import functional as F

    made = make(3)
    z = torch.tensor(made.logits, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor(np.asarray(made.batch.labels), dtype=torch.int64)
    mask = torch.tensor(np.asarray(made.batch.weights), dtype=torch.float64)
    sets = torch.tensor(np.asarray(made.batch.sets)[:, 0])

    def label_logp(x):
        return x.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]

    logp, ref = label_logp(z), label_logp(torch.tensor(made.ref_logits, dtype=torch.float64))
    lp, lp_ref, n = (logp * mask).sum(1), (ref * mask).sum(1), mask.sum(1)
    f, e, r, o = (sets == k for k in (FORGET, ALTERNATE, RETAIN, RETAIN_ALTERNATE))
    p_mean = (logp.exp() * mask).sum(1) / n
    gain = lp - lp_ref
    if case == "simnpo":
        loss = -2 / 4.5 * F.logsigmoid(4.5 * -(lp / n)[f]).mean()
    elif case == "dpo":
        loss = -F.logsigmoid(0.1 * (gain[e] - gain[f])).mean()
    elif case == "flat-kl":
        loss = (-p_mean[e] + (p_mean[f] - 1).exp()).mean()
    elif case == "flat-tv":
        loss = (-p_mean[e].tanh() + p_mean[f].tanh()).mean() / 2
    elif case == "idk_ap":
        refused = -(lp[e].sum() / n[e].sum())
        loss = refused - 10 * F.logsigmoid(0.1 * (lp[r] - lp[o])).mean()
    else:
        p = z.softmax(-1)
        hot = F.one_hot(labels.clamp(min=0), V).double()
        middle = (p + hot) / 2
        entropy = -(torch.special.xlogy(p, p)).sum(-1)
        both = (-torch.special.xlogy(middle, middle)).sum(-1) - entropy / 2
        loss = (both * mask)[e].sum() / n[e].sum()
    loss.backward()
    methods = {"simnpo": SimNpo(forget_weight=1.0), "dpo": Dpo(), "flat-kl": Flat()}
    methods |= {"flat-tv": Flat(divergence="tv"), "jensun": JensUn(retain="nll"), "idk_ap": IdkAp()}
    value, slopes, _ = loss_and_slopes(replace(methods[case], retain_weight=0.0), made)
    assert value == pytest.approx(loss.item(), rel=1e-5)
    wanted = z.grad.numpy()
    np.testing.assert_allclose(slopes, wanted, atol=1e-5 * np.abs(wanted).max())
