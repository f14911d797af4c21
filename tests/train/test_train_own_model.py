# SPDX-License-Identifier: Apache-2.0
"""Models of other libraries in the step: any function (params, batch) -> ModelOutput will do."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from unilogit_jax.data import unlearning_batches
from unilogit_jax.methods import Unilogit
from unilogit_jax.sharding import make_mesh, put_batch
from unilogit_jax.train import TrainState, make_step
from unilogit_jax.types import FORGET, RETAIN, Head, ModelOutput

V, D = 64, 16


def from_nnx():
    """Flax NNX: the parameters are a state, the rest of the module is its graph."""

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.embed = nnx.Embed(V, D, rngs=rngs)
            self.mlp = nnx.Linear(D, D, rngs=rngs)

        def __call__(self, tokens):
            return jnp.tanh(self.mlp(self.embed(tokens)))

    graph, params = nnx.split(Model(nnx.Rngs(0)), nnx.Param)

    def apply(params, batch):
        model = nnx.merge(graph, params)
        head = Head(kernel=model.embed.embedding[...])
        return ModelOutput(hidden=model(batch.tokens), head=head)

    return params, apply


def from_equinox():
    """Equinox: the module is itself a tree, of arrays and of what is none."""

    class Model(eqx.Module):
        embed: eqx.nn.Embedding
        mlp: eqx.nn.Linear
        head: eqx.nn.Linear

        def __init__(self, key):
            keys = jax.random.split(key, 3)
            self.embed = eqx.nn.Embedding(V, D, key=keys[0])
            self.mlp = eqx.nn.Linear(D, D, key=keys[1])
            self.head = eqx.nn.Linear(D, V, key=keys[2])

        def __call__(self, token):
            return jnp.tanh(self.mlp(self.embed(token)))

    params, rest = eqx.partition(Model(jax.random.key(0)), eqx.is_array)

    def apply(params, batch):
        model = eqx.combine(params, rest)
        hidden = jax.vmap(jax.vmap(model))(batch.tokens)
        return ModelOutput(hidden=hidden, head=Head(kernel=model.head.weight, bias=model.head.bias))

    return params, apply


def definition(apply, params, batch):
    """The paper's loss and the retain term from full logits."""
    logits = apply(params, batch).logits()
    logp = jax.nn.log_softmax(logits)
    at = jax.nn.one_hot(batch.labels, V, dtype=bool)
    others = jax.nn.logsumexp(jnp.where(at, -jnp.inf, logits), axis=-1, keepdims=True)
    target = jax.nn.log_softmax(jnp.where(at, others - np.log(V - 1), logits))
    kl = jnp.sum(jnp.exp(logp) * (logp - target), axis=-1)
    nll = -jnp.sum(jnp.where(at, logp, 0.0), axis=-1)
    forget, retain = ((batch.weights > 0) & (batch.sets == which) for which in (FORGET, RETAIN))
    return jnp.sum(kl * forget) / forget.sum() + jnp.sum(nll * retain) / retain.sum()


@pytest.mark.parametrize("library", [from_nnx, from_equinox])
@pytest.mark.parametrize("devices", [1, 8])
def test_a_model_of_another_library_descends_the_paper_s_gradient(library, devices, rows):
    mesh = make_mesh(devices=jax.devices()[:devices])
    params, apply = library()
    batch = unlearning_batches(
        rows(24, 12, 0), rows(40, 16, 1), batch_size=8, retain_size=16, seed=0
    )
    batch = put_batch(batch(0), mesh)
    value, grads = jax.jit(jax.value_and_grad(lambda p: definition(apply, p, batch)))(params)
    wanted = jax.tree.map(lambda p, g: np.asarray(p - g), params, grads)
    optimizer = optax.sgd(1.0)
    state = TrainState(params=params, opt_state=optimizer.init(params))
    state, metrics = make_step(Unilogit(), apply, optimizer, mesh)(state, batch)
    assert float(metrics["loss"]) == pytest.approx(float(value), rel=1e-5)
    for got, expected in zip(*map(jax.tree.leaves, (state.params, wanted)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
