# SPDX-License-Identifier: Apache-2.0
"""Every method of the table: its loss against float64 NumPy, and what all methods must obey."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax import methods
from unilogit_jax.methods import METHODS, GradDiff, Npo, Undial, Unilogit
from unilogit_jax.types import FORGET, RETAIN, TokenStats

V, ROWS, LENGTH = 50, 6, 5
ALL = [Unilogit(), Unilogit(direction="forward"), Npo(beta=0.5), Undial(beta=3.0), GradDiff()]
IDS = ["unilogit", "unilogit-forward", "npo", "undial", "grad_diff"]


def stats(seed=0):
    rng = np.random.default_rng(seed)
    sets = np.repeat([FORGET, RETAIN], ROWS // 2)[:, None] * np.ones((1, LENGTH), int)
    weights = (rng.random((ROWS, LENGTH)) < 0.7).astype(np.float32)
    weights[:, 0] = 1
    shape = (ROWS, LENGTH)
    return TokenStats(
        log_odds=jnp.asarray(rng.normal(0, 3, shape), jnp.float32),
        sets=jnp.asarray(sets, jnp.int32),
        segments=jnp.asarray(
            np.arange(1, ROWS + 1)[:, None] * np.ones((1, LENGTH), int), jnp.int32
        ),
        weights=jnp.asarray(weights),
        ref_log_odds=jnp.asarray(rng.normal(0, 3, shape), jnp.float32),
        divergence=jnp.asarray(rng.random(shape), jnp.float32),
        vocab_size=V,
        num_segments=ROWS + 1,
    )


def oracle(method, s, retain_weight):
    """The loss in float64, from probabilities."""
    m, on = np.asarray(s.log_odds, np.float64), np.asarray(s.weights) > 0
    sets = np.asarray(s.sets)
    p = 1 / (1 + np.exp(-m))
    forget, retain = on & (sets == FORGET), on & (sets == RETAIN)
    if isinstance(method, Unilogit):
        target = np.stack([np.full_like(p, 1 / V), np.full_like(p, 1 - 1 / V)])
        model = np.stack([p, 1 - p])
        a, b = (model, target) if method.direction == "reverse" else (target, model)
        first = (a * np.log(a / b)).sum(0)[forget].mean()
    elif isinstance(method, Npo):
        ref = -np.log1p(np.exp(-np.asarray(s.ref_log_odds, np.float64)))
        gaps = ((np.log(p) - ref) * forget).sum(1)[forget.any(1)]
        first = (2 / method.beta * np.log1p(np.exp(method.beta * gaps))).mean()
    elif isinstance(method, Undial):
        first = np.asarray(s.divergence, np.float64)[forget].mean()
    else:
        first = np.log(p)[forget].mean()
    return first + retain_weight * -np.log(p)[retain].mean()


@pytest.mark.parametrize("method", ALL, ids=IDS)
def test_the_loss_equals_float64_numpy(method, strict_dtypes):
    for weight in (0.0, 2.5):
        s = stats()
        loss, _, metrics = replace(method, retain_weight=weight)(s, ())
        assert float(loss) == pytest.approx(oracle(method, s, weight), rel=1e-5)
        assert float(metrics["loss"]) == float(loss)


@pytest.mark.parametrize("method", ALL, ids=IDS)
def test_unsupervised_tokens_are_inert_whatever_they_hold(method):
    s = stats()
    dirt = jnp.where(s.weights > 0, s.log_odds, 77.0)
    f = jax.jit(lambda m: method(replace(s, log_odds=m), ())[0])
    assert float(f(dirt)) == float(f(s.log_odds))
    assert (np.asarray(jax.grad(f)(dirt))[np.asarray(s.weights) == 0] == 0).all()


@pytest.mark.parametrize("method", ALL, ids=IDS)
def test_the_order_of_rows_does_not_matter(method):
    s, order = stats(), np.random.default_rng(1).permutation(ROWS)
    t = jax.tree.map(lambda x: x[order], s)
    assert float(method(t, ())[0]) == pytest.approx(float(method(s, ())[0]), rel=1e-6)


@pytest.mark.parametrize("method", ALL, ids=IDS)
def test_without_any_supervised_token_loss_and_gradient_are_zero(method):
    s = replace(stats(), weights=jnp.zeros((ROWS, LENGTH)))
    loss, grad = jax.value_and_grad(lambda m: method(replace(s, log_odds=m), ())[0])(s.log_odds)
    assert float(loss) == 0 and (np.asarray(grad) == 0).all()


@pytest.mark.parametrize("method", [m for m in ALL if m.name != "undial"], ids=lambda m: m.name)
def test_descent_lowers_forget_answers_and_raises_retain_answers(method):
    s = stats()
    grad = jax.grad(lambda m: method(replace(s, log_odds=m), ())[0])(s.log_odds)
    on = np.asarray(s.weights) > 0
    above = np.asarray(s.log_odds) > -np.log(V - 1)  # Unilogit turns round below 1/V
    assert (np.asarray(grad)[on & above & (np.asarray(s.sets) == FORGET)] > 0).all()
    assert (np.asarray(grad)[on & (np.asarray(s.sets) == RETAIN)] < 0).all()


def test_every_file_of_the_room_is_in_the_table():
    files = {p.stem for p in Path(methods.__file__).parent.glob("*.py")}
    assert files - {"__init__", "_common", "finetune"} == set(METHODS)
    assert all(cls().name == name for name, cls in METHODS.items())
