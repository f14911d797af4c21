# SPDX-License-Identifier: Apache-2.0
"""Results made of the weights before and after training, and a teacher of two models."""

from dataclasses import dataclass, replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax import models
from unilogit_jax.methods import TaskVector, Undial, Unlearning, Whp
from unilogit_jax.sharding import make_mesh
from unilogit_jax.train import finisher, reference_for
from unilogit_jax.types import FORGET

CONFIG = models.DecoderConfig.scratch(vocab_size=64, width=32, layers=2, heads=4, kv_heads=2)
LORA = models.Lora(rank=4, targets=("q_proj", "mlp.*"))
ULP = {"float32": 2.0**-23, "bfloat16": 2.0**-8}


@dataclass(frozen=True, kw_only=True)
class Half(Unlearning):
    """A method of one's own."""

    def finish(self, start, trained):
        return jax.tree.map(lambda a, b: a + 0.5 * (b - a), start, trained)


@cache
def pair(dtype="float32"):
    """Weights before and after, on a mesh of whatever devices there are, and the model."""
    mesh = make_mesh()
    config = replace(CONFIG, param_dtype=dtype)
    model, start = models.init(config, jax.random.key(0), mesh=mesh)
    _, other = models.init(config, jax.random.key(1), mesh=mesh)
    near = jax.tree.map(lambda a, b: (a + 0.01 * b).astype(a.dtype), start, other)
    return model, start, near, mesh


def doubles(tree):
    return [np.asarray(x.astype(jnp.float32), np.float64) for x in jax.tree.leaves(tree)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_step_is_taken_back_and_the_weights_lie_where_they_lay(dtype):
    _, start, trained, _ = pair(dtype)
    found = finisher(TaskVector(alpha=3.0), start)(trained)
    for got, a, b in zip(*map(doubles, (found, start, trained)), strict=True):
        wanted = a - 3 * (b - a)
        # Rounded once to its type, from terms in float32.
        allowed = ULP[dtype] * np.abs(wanted) + 1e-6 * (np.abs(a) + 3 * np.abs(b - a))
        assert (np.abs(got - wanted) <= allowed).all()
    for got, old in zip(*map(jax.tree.leaves, (found, start)), strict=True):
        assert got.dtype == old.dtype and got.sharding == old.sharding


@pytest.mark.parametrize("lora", [None, LORA], ids=["whole", "lora"])
def test_with_alpha_zero_the_result_is_the_start_bit_for_bit(lora):
    model, start, trained, mesh = pair("bfloat16")
    if lora is not None:
        trained = adapters_of(model, mesh)
    found = finisher(TaskVector(alpha=0.0), start, lora)(trained)
    jax.tree.map(np.testing.assert_array_equal, found, start)


def adapters_of(model, mesh):
    fresh = LORA.init(model, jax.random.key(2), mesh=mesh)
    return jax.tree.map(lambda x: x + 1e-3 * jnp.cos(jnp.arange(x.size).reshape(x.shape)), fresh)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_under_adapters_their_product_is_taken_off_and_rounded_once(dtype):
    model, start, _, mesh = pair(dtype)
    adapters = adapters_of(model, mesh)
    found = finisher(TaskVector(alpha=5.0), start, LORA)(adapters)
    base, made = start["layers"]["mlp"]["up_proj"], found["layers"]["mlp"]["up_proj"]
    a, b = (np.asarray(adapters["layers"]["mlp"]["up_proj"][x], np.float64) for x in "ab")
    (old,), (new,) = doubles(base), doubles(made)
    wanted = old - 5.0 * LORA.scale * np.einsum("lir,lro->lio", a, b)
    assert np.abs(wanted - old).max() > 1e-4
    assert (np.abs(new - wanted) <= ULP[dtype] * np.abs(wanted) + 1e-9).all()
    assert made["kernel"].sharding == base["kernel"].sharding
    assert found["embed"] is start["embed"]


def test_a_method_of_ones_own_finishes_and_one_without_is_left_alone():
    _, start, trained, _ = pair()
    found = finisher(Half(), start)(trained)
    for got, a, b in zip(*map(doubles, (found, start, trained)), strict=True):
        np.testing.assert_allclose(got, (a + b) / 2, rtol=1e-6, atol=1e-8)
    assert finisher(Undial(), start)(trained) is trained


def test_with_alpha_zero_the_teacher_is_the_start_model_and_else_it_knows_less(rows):
    model, start, other, mesh = pair()
    forget = {FORGET: rows(24, 12, 0)}
    apply_fn = models.apply_fn(model)

    def stored(method, **more):
        options = {"batch_size": 16, "mesh": mesh} | more
        return reference_for(method, apply_fn, start, forget, **options)[0][FORGET]

    plain, same, less = (
        stored(Plain(top_k=8)),
        stored(Whp(alpha=0.0, top_k=8), reinforced=other),
        stored(Whp(alpha=5.0, top_k=8), reinforced=other),
    )
    on = forget[FORGET].labels >= 0
    for name in plain:
        np.testing.assert_allclose(same[name][on], plain[name][on], rtol=1e-5, atol=1e-5)
    assert np.abs(less["ref_log_odds"] - plain["ref_log_odds"])[on].max() > 1e-3


@dataclass(frozen=True, kw_only=True)
class Plain(Whp):
    """The start model as it is."""

    @property
    def forget_needs(self):
        return super().forget_needs._replace(reinforced=None)
