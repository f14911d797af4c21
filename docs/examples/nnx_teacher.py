# SPDX-License-Identifier: Apache-2.0
"""A Flax NNX model, the fused head, and a teacher of which eight tokens per position are stored."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from unilogit_jax import losses
from unilogit_jax.ops import Divergence, TopK, chunked_divergence, label_log_odds, top_tokens

VOCABULARY, WIDTH = 64, 16


class Model(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
        self.mlp = nnx.Linear(WIDTH, WIDTH, rngs=rngs)

    def __call__(self, tokens):
        """Hidden states; the head is the embedding, [V, D]."""
        return jnp.tanh(self.mlp(self.embed(tokens)))


def nll(model, rows):
    hidden = model(rows[:, :-1])
    values = losses.cross_entropy_head(hidden, model.embed.embedding[...], rows[:, 1:])
    return jnp.mean(values)


def remember(model, rows):
    """What the model says now: its likeliest tokens, and the log-odds of the labels."""
    labels, kernel = rows[:, 1:], model.embed.embedding[...]
    call = (model(rows[:, :-1]), kernel, labels, jnp.ones(labels.shape))
    tokens = top_tokens(*call, k=8)
    stats = label_log_odds(*call, picks=tokens)
    return TopK(
        tokens=tokens,
        logprobs=stats.pick_logprobs,
        label_logprob=-jax.nn.softplus(-stats.log_odds),
        tail_logprob=stats.tail_logprob,
    )


def anchored(model, rows, teacher):
    """The label goes to 1/V; the alternatives stay what they were to each other."""
    labels = rows[:, 1:]
    how = Divergence(direction="anchored", tau="uniform")
    stats = chunked_divergence(
        model(rows[:, :-1]),
        model.embed.embedding[...],
        teacher,
        labels,
        jnp.ones(labels.shape),
        how,
    )
    return jnp.mean(stats.values)


def train(objective, model, steps):
    optimizer = nnx.Optimizer(model, optax.adam(2e-2), wrt=nnx.Param)

    @nnx.jit
    def update(model, optimizer):
        optimizer.update(model, nnx.grad(objective)(model))

    for _ in range(steps):
        update(model, optimizer)


rows = jnp.arange(VOCABULARY).reshape(8, 8)  # every token has one successor
forget, retain = rows[:2], rows[2:]
model = Model(nnx.Rngs(0))
train(lambda m: nll(m, rows), model, 200)
teacher = remember(model, forget)
print(f"learned    NLL forget {nll(model, forget):.2f}  retain {nll(model, retain):.2f}")
train(lambda m: anchored(m, forget, teacher) + 4.0 * nll(m, retain), model, 200)
print(f"unlearned  NLL forget {nll(model, forget):.2f}  retain {nll(model, retain):.2f}")
