# SPDX-License-Identifier: Apache-2.0
"""The sharp forget gradient: that of its formula, on any mesh, in parts, packed, resumed."""

from dataclasses import dataclass, fields, replace
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from step_gradients import gradients, worst

from unilogit_jax import models
from unilogit_jax.methods import IdkAp, Npo, NpoSam, Pdu, Rmu, Undial, Unilogit
from unilogit_jax.sharding import put_batch
from unilogit_jax.train import TrainState, choose_trainable, gradients_of, make_step
from unilogit_jax.train.sharpness import radius_of
from unilogit_jax.types import FORGET, RETAIN, Batch, Head, ModelOutput

ONE = {"data": 1, "fsdp": 1, "tensor": 1}
V, D, ROWS, LENGTH = 11, 5, 6, 4
"""Of the model that the oracle knows: an embedding, one hidden layer, a head."""


def apply(params, batch):
    """The model in JAX."""
    hidden = jnp.tanh(params["embed"][batch.tokens] @ params["mix"])
    return ModelOutput(hidden=hidden, head=Head(kernel=params["head"]))


def made(seed=0):
    """Weights and a batch of one answer a row, half of them to forget."""
    rng = np.random.default_rng(seed)
    shapes = {"embed": (V, D), "mix": (D, D), "head": (V, D)}
    params = {name: rng.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    tokens, labels = rng.integers(0, V, (2, ROWS, LENGTH)).astype(np.int32)
    sets = np.repeat([FORGET, RETAIN], ROWS // 2)[:, None] * np.ones((1, LENGTH), np.int32)
    return params, Batch(
        tokens=jnp.asarray(tokens),
        labels=jnp.asarray(labels),
        segments=jnp.asarray(np.arange(1, ROWS + 1)[:, None] * np.ones((1, LENGTH), np.int32)),
        positions=jnp.asarray(np.arange(LENGTH)[None] * np.ones((ROWS, 1), np.int32)),
        sets=jnp.asarray(sets),
        weights=jnp.ones((ROWS, LENGTH), jnp.float32),
        ref_log_odds=jnp.asarray(rng.normal(-1, 1, (ROWS, LENGTH)).astype(np.float32)),
        num_segments=ROWS + 1,
    )


def oracle_losses(params, batch, beta):
    """Forget and retain loss in float64 NumPy, from the formulas."""
    hidden = np.tanh(params["embed"][np.asarray(batch.tokens)] @ params["mix"])
    z = hidden @ params["head"].T
    logp = z - np.log(np.exp(z).sum(-1, keepdims=True))
    logp = np.take_along_axis(logp, np.asarray(batch.labels)[..., None], -1)[..., 0]
    ref = -np.logaddexp(0, -np.asarray(batch.ref_log_odds, np.float64))
    forget = np.asarray(batch.sets)[:, 0] == FORGET
    gap = (logp - ref)[forget].sum(-1)
    return np.mean(2 / beta * np.logaddexp(0, beta * gap)), -logp[~forget].mean()


def slope(f, params, step=1e-5):
    """Central differences of a function of a tree of float64 arrays."""
    found = {}
    for name, leaf in params.items():
        found[name] = np.zeros_like(leaf)
        for i in np.ndindex(leaf.shape):
            ends = []
            for sign in (1, -1):
                moved = leaf.copy()
                moved[i] += sign * step
                ends.append(f(params | {name: moved}))
            found[name][i] = (ends[0] - ends[1]) / (2 * step)
    return found


def oracle(params, batch, method, trained):
    """The sharp gradient of the trained weights, and the forget loss uphill."""
    wide = {name: np.asarray(leaf, np.float64) for name, leaf in params.items()}
    fixed = {name: leaf for name, leaf in wide.items() if name not in trained}
    free = {name: wide[name] for name in trained}

    def loss(which, weights):
        return oracle_losses(fixed | weights, batch, method.beta)[which]

    g = slope(partial(loss, 0), free)
    norm = np.sqrt(sum((x**2).sum() for x in g.values()))
    uphill = {name: leaf + method.rho * g[name] / norm for name, leaf in free.items()}
    far, near = slope(partial(loss, 0), uphill), slope(partial(loss, 1), free)
    grads = {name: far[name] + method.retain_weight * near[name] for name in trained}
    return grads, loss(0, uphill)


class Tiny:
    """The oracle's model where `gradients` expects a rig."""

    def __init__(self, rig, method, params, batch):
        self.mesh, self.apply, self.method = rig(ONE).mesh, apply, method
        self.batches, self.params = lambda _: batch, params

    def state(self):
        return TrainState(params=jax.tree.map(jnp.asarray, self.params), opt_state=()), None


@pytest.mark.parametrize("trained", [("embed", "mix", "head"), ("mix",)], ids=["all", "some"])
def test_the_gradient_is_that_of_the_formula(rig, trained):
    params, batch = made()
    method = NpoSam(beta=0.5, rho=0.7, retain_weight=2.0)
    wanted, far = oracle(params, batch, method, trained)
    tiny = Tiny(rig, method, params, batch)
    numbers, got = gradients(tiny, trainable=choose_trainable(params, trained), microbatches=3)
    assert worst(wanted, {name: got[name] for name in trained}) <= 1e-5
    assert all((got[name] == 0).all() for name in set(params) - set(trained))
    assert numbers["sharp_forget_loss"] == pytest.approx(far, rel=1e-5)
    losses = oracle_losses(
        {name: leaf.astype(np.float64) for name, leaf in params.items()}, batch, 0.5
    )
    assert numbers["forget_loss"] == pytest.approx(losses[0], rel=1e-5)
    assert numbers["loss"] == pytest.approx(losses[0] + 2.0 * losses[1], rel=1e-5)
    # The step matters, or this test could not fail.
    flat, _ = oracle(params, batch, replace(method, rho=0.0), trained)
    assert worst(wanted, flat) > 1e-2


def sharpened(method):
    """The method, sharp with a step of no length."""

    @dataclass(frozen=True, kw_only=True)
    class Sharp(type(method)):
        sharp: ClassVar[bool] = True
        rho: float = 0.0

    return Sharp(**{field.name: getattr(method, field.name) for field in fields(method)})


@pytest.mark.parametrize(
    "method",
    [
        Npo(retain_weight=2.0),
        Pdu(lambda0=2.0),
        pytest.param(Unilogit(retain="kl", retain_weight=2.0), marks=pytest.mark.full),
        pytest.param(Undial(retain_weight=0.0), marks=pytest.mark.full),
        pytest.param(IdkAp(retain_weight=0.5), marks=pytest.mark.full),
        pytest.param(Rmu(layer=1, c=20.0, retain_weight=100.0), marks=pytest.mark.full),
    ],
    ids=lambda method: method.name,
)
def test_a_step_of_no_length_is_the_method_itself(rig, method):
    plain, wanted = gradients(rig(ONE, method))
    sharp, got = gradients(rig(ONE, sharpened(method)))
    assert sharp.pop("sharp_forget_loss") == pytest.approx(plain["forget_loss"], rel=1e-5)
    assert sharp == pytest.approx(plain, rel=1e-5, abs=1e-7)
    assert worst(wanted, got) <= 1e-5


def test_the_step_costs_three_gradients_and_is_the_forget_term_s_alone(rig):
    assert (gradients_of(NpoSam()), gradients_of(Npo())) == (3, 1)
    # Without a forget term there is nowhere to go: the retain term is taken where the weights are.
    kept = NpoSam(forget_weight=0.0, rho=5.0)
    _, wanted = gradients(rig(ONE, replace(kept, rho=0.0)))
    _, got = gradients(rig(ONE, kept))
    assert worst(wanted, got) <= 1e-6


def test_a_batch_without_forget_tokens_moves_by_the_retain_term(rig):
    made = [rig(ONE, method) for method in (Npo(), NpoSam(rho=1.0))]
    found = []
    for one in made:
        batch = one.batches(0)
        weights = np.where(np.asarray(batch.sets) == FORGET, 0.0, batch.weights)
        one.batches = dict.fromkeys([0], replace(batch, weights=weights.astype(np.float32))).get
        found.append(gradients(one))
    assert worst(found[0][1], found[1][1]) <= 1e-6
    assert found[1][0]["sharp_forget_loss"] == 0 and found[1][0]["skipped"] == 0


def test_an_update_that_is_not_finite_uphill_is_skipped(rig):
    numbers, moved = gradients(rig(ONE, NpoSam(rho=1e30)))
    assert numbers["skipped"] == 1 and np.isfinite(numbers["loss"])
    assert all((x == 0).all() for x in jax.tree.leaves(moved))


def test_weights_in_bfloat16_go_uphill_too(rig):
    one = rig(ONE, NpoSam(rho=0.5), param_dtype="bfloat16")
    state, _ = one.state()
    step = make_step(one.method, one.apply, one.optimizer, one.mesh)
    _, numbers = step(state, put_batch(one.batches(0), one.mesh))
    wide, _ = gradients(rig(ONE, NpoSam(rho=0.5)))
    rise = [float(n["sharp_forget_loss"] - n["forget_loss"]) for n in (numbers, wide)]
    assert rise[1] > 0.1 and rise[0] == pytest.approx(rise[1], rel=0.2)


def test_adapters_go_uphill_and_the_model_below_them_stays(rig):
    one = rig(ONE, NpoSam(rho=0.5))
    lora = models.Lora(rank=2)
    adapters = lora.init(one.model, jax.random.key(3), mesh=one.mesh)
    adapters = jax.tree.map(lambda x: x + 0.1, adapters)
    frozen, batch = one.params, put_batch(one.batches(0), one.mesh)
    one.apply, one.params = models.lora_apply_fn(one.model, lora), adapters
    one.state = lambda: (TrainState(params=one.params, opt_state=()), None)
    one.batches = lambda _: batch
    numbers, _ = gradients(one, frozen=frozen)
    assert numbers["sharp_forget_loss"] > numbers["forget_loss"] + 0.01


def test_a_resumed_run_is_the_same_run(rig, tmp_path):
    def batch_at(i):
        if i == 3:
            raise InterruptedError
        return part.batches(i)

    whole, lines = rig(ONE, NpoSam(rho=0.1), steps=4).run(tmp_path / "a")
    part = rig(ONE, NpoSam(rho=0.1), steps=4)
    with pytest.raises(InterruptedError):
        part.run(tmp_path / "b", part.stage(batch_at=batch_at))
    again, rest = rig(ONE, NpoSam(rho=0.1), steps=4).run(tmp_path / "b")
    assert rest == lines[2:], "resumed after update 2, the newest checkpoint"
    for a, b in zip(jax.tree.leaves(whole.params), jax.tree.leaves(again.params), strict=True):
        assert np.array_equal(a, b)


def test_a_sharp_method_without_a_length_is_refused():
    @dataclass(frozen=True, kw_only=True)
    class Half(Unilogit):
        sharp: ClassVar[bool] = True

    with pytest.raises(ValueError, match="Half is `sharp`: it needs a field `rho`"):
        radius_of(Half())
