# SPDX-License-Identifier: Apache-2.0
"""ME, DELETE, KL minimisation and Unilogit's options in torch with autograd, from definitions.

Unilogit's targets are whole distributions here, written down and detached, not the label's terms.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
from methods_rig import OPTIONS, V, loss_and_slopes, make, unilogit

from unilogit_jax.methods import Delete, KlMin, Me
from unilogit_jax.types import FORGET, RETAIN

torch = pytest.importorskip("torch")
F = torch.nn.functional


USUAL = ("own", "number", "initial-reverse", "initial-own-full", "select-initial", "sequence")
"""Options of each kind; `make test-all` takes all, and the oracle in NumPy always does."""


class Tensors(NamedTuple):
    """The rig's arrays; `z` is a leaf."""

    z: Any
    ref: Any
    labels: Any
    logit_tau: Any
    ref_tokens: Any
    forget: Any
    retain: Any
    everywhere: Any
    """All positions of forget rows."""


def tensors(made):
    batch = made.batch
    sets, on = np.asarray(batch.sets), np.asarray(batch.weights) > 0

    def double(x):
        return torch.tensor(np.asarray(x), dtype=torch.float64)

    def mask(x):
        return torch.tensor(np.asarray(x))

    return Tensors(
        z=double(made.logits).requires_grad_(),
        ref=double(made.ref_logits),
        labels=torch.tensor(np.asarray(batch.labels), dtype=torch.int64),
        logit_tau=double(batch.logit_tau),
        ref_tokens=torch.tensor(np.asarray(batch.ref_tokens), dtype=torch.int64),
        forget=mask(on & (sets == FORGET)),
        retain=mask(on & (sets == RETAIN)),
        everywhere=mask(sets == FORGET),
    )


def kl(a, b):
    """KL(a || b) of log-probabilities; entries of probability 0 in both add nothing."""
    return F.kl_div(b, a, reduction="none", log_target=True).sum(-1)


def agree(method, made, x, loss):
    """Value and gradient of a method are those of a torch loss of `x.z`."""
    loss.backward()
    value, slopes, _ = loss_and_slopes(method, made)
    wanted = x.z.grad.numpy()
    assert value == pytest.approx(loss.item(), rel=1e-5)
    np.testing.assert_allclose(slopes, wanted, atol=1e-5 * np.abs(wanted).max(), rtol=0)


def nll(x):
    return F.cross_entropy(x.z[x.retain], x.labels[x.retain])


def test_me():
    made = make(3)
    x = tensors(made)
    uniform = torch.full((V,), 1 / V, dtype=torch.float64).log()
    forget = kl(uniform, x.z[x.everywhere].log_softmax(-1)).mean()
    agree(Me(forget_weight=0.3), made, x, 0.3 * forget + nll(x))


@pytest.mark.parametrize("sure", [0.0, 12.0])
def test_delete(sure):
    made = make(3, sure=sure)
    x = tensors(made)
    teacher = x.ref[x.forget].scatter(-1, x.labels[x.forget][:, None], -1e30).log_softmax(-1)
    forget = kl(teacher, x.z[x.forget].log_softmax(-1)).mean()
    agree(Delete(retain_weight=0.7), made, x, forget + 0.7 * nll(x))


def test_kl_min():
    made = make(3)
    x = tensors(made)
    forget = F.cross_entropy(x.z[x.forget], x.labels[x.forget])
    kept = kl(x.ref[x.retain].log_softmax(-1), x.z[x.retain].log_softmax(-1)).mean()
    agree(KlMin(retain_weight=0.7), made, x, -forget + 0.7 * kept)


def taus(method, x, p0):
    """The label probability of each forget token's target, before selection."""
    if method.tau == "uniform":
        tau = torch.full_like(p0, 1 / V)
    elif isinstance(method.tau, float):
        tau = torch.full_like(p0, method.tau)
    else:
        tau = x.logit_tau[x.forget].sigmoid()
        if method.tau != "own":
            tau = torch.minimum(tau.clamp(min=1 / V), p0)
    return tau


def grouped(logp, labels, tokens):
    """Log-probabilities of label, stored tokens and all others as one."""
    picks = torch.cat([labels[:, None], tokens], -1)
    rest = logp.scatter(-1, picks, -math.inf).logsumexp(-1, keepdim=True)
    return torch.cat([logp.gather(-1, picks), rest], -1)


def target(tau, logq):
    """tau for the label, which comes first, and the others in the ratios of `logq`."""
    others = logq[:, 1:].log_softmax(-1)
    return torch.cat([tau.log()[:, None], (1 - tau).log()[:, None] + others], -1)


def of_targets(method, x):
    if method.unit == "sequence":
        logp = x.z.log_softmax(-1).gather(-1, x.labels.clamp(min=0)[..., None])[..., 0]
        rows = x.forget.any(1)
        n = x.forget[rows].sum(1).double()
        likely = torch.where(x.forget, logp, 0.0)[rows].sum(1).exp()
        of = torch.distributions.Bernoulli
        goal = of(probs=torch.tensor(float(V), dtype=torch.float64) ** -n)
        return (torch.distributions.kl_divergence(of(probs=likely), goal) / n).mean()
    z, ref, y = (t[x.forget] for t in (x.z, x.ref, x.labels))
    # Without stored tokens: all V, the label first.
    order = torch.cat(
        [y[:, None], torch.arange(V).repeat(len(y), 1)[F.one_hot(y, V) == 0].view(-1, V - 1)], -1
    )
    p = z.log_softmax(-1)
    p0 = ref.log_softmax(-1).gather(-1, y[:, None])[:, 0].exp()
    tau = taus(method, x, p0)
    chosen = p0 > 2 * tau if method.select else torch.ones_like(p0, dtype=torch.bool)
    aim = torch.full_like(tau, 1 / V) if method.select else tau
    small, small0 = (grouped(logs, y, x.ref_tokens[x.forget]) for logs in (p, ref.log_softmax(-1)))
    if method.alternatives == "current":
        whole = p.gather(-1, order)
        goal = target(aim, whole.detach())
        values = kl(goal, whole) if method.direction == "forward" else kl(whole, goal)
    elif method.direction == "reverse":
        q0, q = (logs[:, 1:].log_softmax(-1) for logs in (small0, small))
        goal = torch.stack([aim.log(), (1 - aim).log()], -1)
        label = torch.stack([small[:, 0], small[:, 1:].logsumexp(-1)], -1)
        values = kl(label, goal) + kl(q0, q)
    else:
        goal = target(aim, small0)
        values = kl(goal, small) if method.direction == "forward" else kl(small, goal)
    return torch.where(chosen, values, kl(small0, small)).mean()


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in USUAL else pytest.mark.full) for n in OPTIONS]
)
def test_unilogit(name):
    method, made = unilogit(name), make(3)
    x = tensors(made)
    agree(method, made, x, 0.5 * of_targets(method, x) + 1.5 * nll(x))
