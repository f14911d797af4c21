# SPDX-License-Identifier: Apache-2.0
"""What all methods of the table must obey, and the oracles of the first ones."""

from dataclasses import fields, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from methods_rig import V, check, logprobs, loss_and_slopes, make, retain_nll, softmax

from unilogit_jax import methods
from unilogit_jax.methods import METHODS, GradDiff, Npo, Structured, Undial, Unilogit, Unlearning
from unilogit_jax.types import FORGET, RETAIN

OF_LAYERS = {name for name, cls in METHODS.items() if cls().needs.layer is not None}
NAMES = sorted(set(METHODS) - OF_LAYERS)
KINDS = ("unilogit", "npo", "undial", "dpo", "pdu")
"""A method of each kind, where all would take long; `make test-all` takes all."""


def forget_tokens(made, f):
    return np.mean(np.concatenate([f(*row) for row in made.of(FORGET)]))


def unilogit(direction):
    def one(z, _, y):
        p = np.exp(logprobs(z, y))
        target, model = np.stack([np.full_like(p, 1 / V), np.full_like(p, 1 - 1 / V)]), [p, 1 - p]
        a, b = (model, target) if direction == "reverse" else (target, model)
        return (a * np.log(np.asarray(a) / b)).sum(0)

    return lambda made: forget_tokens(made, one)


def npo(made):
    gaps = [logprobs(z, y).sum() - logprobs(ref, y).sum() for z, ref, y in made.of(FORGET)]
    return np.mean(2 / 0.5 * np.log1p(np.exp(0.5 * np.array(gaps))))


def undial(made):
    def one(z, ref, y):
        lowered = ref - 3.0 * np.eye(V)[y]
        return -(softmax(lowered) * np.log(softmax(z))).sum(-1)

    return forget_tokens(made, one)


def kl_retain(made):
    def one(z, ref, _):
        t = softmax(ref)
        return (t * np.log(t / softmax(z))).sum(-1)

    return np.mean(np.concatenate([one(*row) for row in made.of(RETAIN)]))


CASES = {
    "unilogit": (Unilogit(), unilogit("reverse")),
    "unilogit-forward": (Unilogit(direction="forward"), unilogit("forward")),
    "npo": (Npo(beta=0.5), npo),
    "undial": (Undial(beta=3.0), undial),
    "grad_diff": (GradDiff(), lambda made: forget_tokens(made, lambda z, _, y: logprobs(z, y))),
}


@pytest.mark.parametrize("retain", ["nll", "kl"])
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient_are_those_of_the_formula(case, retain):
    method, forget = CASES[case]
    term = retain_nll if retain == "nll" else kl_retain
    for weight in (0.0, 2.5):
        chosen = replace(method, retain_weight=weight, retain=retain, forget_weight=0.5)
        check(chosen, make(), lambda m, w=weight: 0.5 * forget(m) + w * term(m))


def start(method):
    return method.start(jax.random.key(0), width=V)


@pytest.mark.parametrize("name", NAMES)
def test_unsupervised_tokens_are_inert_whatever_they_hold(name):
    made, method = make(), METHODS[name]()
    # Methods that look at all positions look at those of the question too, not at padding.
    everywhere = any(c.everywhere for c in method.comparisons)
    batch = made.batch
    off = np.asarray(batch.segments) == 0 if everywhere else np.asarray(batch.weights) == 0
    logits = np.where(off[..., None], np.float32(np.nan), made.logits)
    value, slopes, metrics = loss_and_slopes(
        method, replace(made, logits=logits), state=start(method)
    )
    wanted, _, _ = loss_and_slopes(method, made, state=start(method))
    assert value == wanted and metrics["loss"] == pytest.approx(value, rel=1e-5, abs=1e-6)
    assert (slopes[off] == 0).all() and np.isfinite(slopes).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_rows_does_not_matter(name):
    made, method = make(), METHODS[name]()
    order = np.random.default_rng(1).permutation(len(made.logits))
    batch = jax.tree.map(lambda x: x[order], made.batch)
    moved = replace(made, logits=made.logits[order], ref_logits=made.ref_logits[order], batch=batch)
    value, slopes, _ = loss_and_slopes(method, made, state=start(method))
    again, moved_slopes, _ = loss_and_slopes(method, moved, state=start(method))
    assert again == pytest.approx(value, rel=1e-5, abs=1e-6)
    np.testing.assert_allclose(moved_slopes, slopes[order], atol=1e-6 + 1e-5 * abs(slopes).max())


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in KINDS else pytest.mark.full) for n in NAMES]
)
def test_jit_changes_nothing(name):
    made, method = make(), METHODS[name]()
    value, slopes, _ = loss_and_slopes(method, made, state=start(method))
    plain, plain_slopes, _ = loss_and_slopes(method, made, state=start(method), jit=False)
    assert plain == pytest.approx(value, rel=1e-6, abs=1e-6)
    np.testing.assert_allclose(plain_slopes, slopes, atol=1e-6 * max(1, abs(slopes).max()))


@pytest.mark.parametrize("name", NAMES)
def test_without_any_row_loss_and_gradient_are_zero(name):
    made, method = make(), METHODS[name]()
    empty = replace(
        made.batch,
        weights=jnp.zeros_like(made.batch.weights),
        sets=jnp.zeros_like(made.batch.sets),
        segments=jnp.zeros_like(made.batch.segments),
    )
    value, slopes, _ = loss_and_slopes(method, replace(made, batch=empty), state=start(method))
    assert value == 0 and (slopes == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_forget_rows_without_a_supervised_token_are_no_nan(name):
    made, method = make(), METHODS[name]()
    kept = jnp.where(made.batch.sets == FORGET, 0.0, made.batch.weights)
    batch = replace(made.batch, weights=kept, labels=jnp.where(kept > 0, made.batch.labels, -100))
    value, slopes, metrics = loss_and_slopes(
        method, replace(made, batch=batch), state=start(method)
    )
    assert (
        np.isfinite(value)
        and np.isfinite(slopes).all()
        and np.isfinite(list(metrics.values())).all()
    )


@pytest.mark.parametrize("name", NAMES)
def test_retain_rows_are_pushed_up(name):
    made, method = make(), METHODS[name]()
    # Some methods retain nothing by default.
    chosen = replace(method, retain="nll", retain_weight=method.retain_weight or 1.0)
    _, slopes, _ = loss_and_slopes(chosen, made, state=start(method))
    for b, t in np.argwhere(
        (np.asarray(made.batch.sets) == RETAIN) & (np.asarray(made.batch.weights) > 0)
    ):
        assert slopes[b, t, int(made.batch.labels[b, t])] < 0


def test_every_file_of_the_room_is_in_the_table():
    files = {p.stem for p in Path(methods.__file__).parent.glob("*.py") if p.stem[0] != "_"}
    assert files - {"finetune"} == set(METHODS)
    for name, cls in METHODS.items():
        assert cls().name == name and isinstance(cls(), Structured) and issubclass(cls, Unlearning)
        assert hash(cls()) == hash(cls()), "a method is a static argument"
        assert {f.name for f in fields(cls)} >= {"retain", "retain_weight", "forget_weight"}
