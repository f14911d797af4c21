# SPDX-License-Identifier: Apache-2.0
"""Unilogit in a training loop of your own: no config, no run folder, no decoder of this package."""

import jax
import jax.numpy as jnp
import optax

from unilogit_jax import losses

VOCABULARY, WIDTH = 64, 16


def model(params, tokens):
    """Stands for any function (params, tokens [B, L]) -> logits [B, L, V]."""
    return params["embed"][tokens] @ params["head"]


def retain_term(params, rows):
    labels = rows[:, 1:]  # the shift by one is yours to do
    nll = losses.cross_entropy(model(params, rows[:, :-1]), labels)
    return losses.masked_mean(nll, labels >= 0, over="tokens")


def forget_term(params, rows):
    labels = rows[:, 1:]
    divergence = losses.unilogit(model(params, rows[:, :-1]), labels)
    return losses.masked_mean(divergence, labels >= 0, over="tokens")


def train(objective, params, steps):
    optimizer = optax.adam(2e-2)
    state = optimizer.init(params)

    @jax.jit
    def update(params, state):
        updates, state = optimizer.update(jax.grad(objective)(params), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = update(params, state)
    return params


rows = jnp.arange(VOCABULARY).reshape(8, 8)  # every token has one successor
forget, retain = rows[:2], rows[2:]
first, second = jax.random.split(jax.random.key(0))
params = {
    "embed": 0.1 * jax.random.normal(first, (VOCABULARY, WIDTH)),
    "head": 0.1 * jax.random.normal(second, (WIDTH, VOCABULARY)),
}
learned = train(lambda p: retain_term(p, rows), params, 100)
unlearned = train(lambda p: forget_term(p, forget) + 4.0 * retain_term(p, retain), learned, 100)
for name, params in (("learned", learned), ("unlearned", unlearned)):
    nll = f"forget {retain_term(params, forget):.2f}  retain {retain_term(params, retain):.2f}"
    print(f"{name:9}  NLL {nll}")
