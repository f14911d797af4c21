# SPDX-License-Identifier: Apache-2.0
"""An Equinox model with a head of its own, and NPO against log-probabilities stored once."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from unilogit_jax import losses

VOCABULARY, WIDTH = 64, 16


class Model(eqx.Module):
    embed: eqx.nn.Embedding
    mlp: eqx.nn.Linear
    head: eqx.nn.Linear

    def __init__(self, key):
        first, second, third = jax.random.split(key, 3)
        self.embed = eqx.nn.Embedding(VOCABULARY, WIDTH, key=first)
        self.mlp = eqx.nn.Linear(WIDTH, WIDTH, key=second)
        self.head = eqx.nn.Linear(WIDTH, VOCABULARY, use_bias=False, key=third)

    def __call__(self, tokens):
        """Logits of one row."""
        hidden = jax.vmap(self.mlp)(jax.vmap(self.embed)(tokens))
        return jax.vmap(self.head)(jnp.tanh(hidden))


def logprobs(model, rows):
    """Of each answer as a whole, [B]."""
    logits, labels = jax.vmap(model)(rows[:, :-1]), rows[:, 1:]
    return losses.sequence_logprobs(logits, labels)


def nll(model, rows):
    return -jnp.mean(logprobs(model, rows)) / (rows.shape[1] - 1)


def forget(model, rows, reference):
    """NPO needs of the start model one number for each answer, not the model."""
    return jnp.mean(losses.npo(logprobs(model, rows), reference, beta=0.5))


def train(objective, model, steps):
    optimizer = optax.adam(2e-2)
    state = optimizer.init(eqx.filter(model, eqx.is_array))

    @eqx.filter_jit
    def update(model, state):
        updates, state = optimizer.update(eqx.filter_grad(objective)(model), state)
        return eqx.apply_updates(model, updates), state

    for _ in range(steps):
        model, state = update(model, state)
    return model


rows = jnp.arange(VOCABULARY).reshape(8, 8)  # every token has one successor
gone, kept = rows[:2], rows[2:]
model = train(lambda m: nll(m, rows), Model(jax.random.key(0)), 200)
print(f"learned    NLL forget {nll(model, gone):.2f}  retain {nll(model, kept):.2f}")
reference = logprobs(model, gone)
model = train(lambda m: forget(m, gone, reference) + 4.0 * nll(m, kept), model, 200)
print(f"unlearned  NLL forget {nll(model, gone):.2f}  retain {nll(model, kept):.2f}")
