# SPDX-License-Identifier: Apache-2.0
"""A loss for a trainer that takes one: here a small trainer with the interface of Tunix's.

`PeftTrainer(model, optimizer, config)` of google-tunix takes the same two functions by
`with_gen_model_input_fn(model_input)` and `with_loss_fn(unlearning_loss, has_aux=True)`.
"""

import jax.numpy as jnp
import optax
from flax import nnx

from unilogit_jax import losses

VOCABULARY, WIDTH = 64, 16


class Model(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
        self.mlp = nnx.Linear(WIDTH, WIDTH, rngs=rngs)

    def __call__(self, tokens, positions, cache, attention_mask):
        """Logits and cache, as such trainers expect; this model needs the tokens only."""
        return self.embed.attend(jnp.tanh(self.mlp(self.embed(tokens)))), cache


def model_input(batch):
    """The arguments of the loss, from what the data set yields."""
    tokens, length = batch["input_tokens"], batch["input_tokens"].shape[1]
    return {
        "input_tokens": tokens,
        "input_mask": batch["input_mask"],
        "forget": batch["forget"],
        "positions": jnp.broadcast_to(jnp.arange(length), tokens.shape),
        "attention_mask": jnp.tril(jnp.ones((1, length, length), bool)),
    }


def unlearning_loss(model, input_tokens, input_mask, forget, positions, attention_mask):
    """Unilogit on rows marked `forget`, cross entropy on the others: one forward pass for both."""
    logits, _ = model(input_tokens, positions, None, attention_mask)
    logits, labels, counts = logits[:, :-1], input_tokens[:, 1:], input_mask[:, 1:]
    forget = counts * forget[:, None]
    retain = counts - forget
    forgotten = losses.masked_mean(losses.unilogit(logits, labels), forget)
    kept = losses.masked_mean(losses.cross_entropy(logits, labels), retain)
    return forgotten + 4.0 * kept, {"forget": forgotten, "retain": kept}


class Trainer:
    """What trainers of this kind do: functions are handed in, then it trains."""

    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, nnx.Optimizer(model, optimizer, wrt=nnx.Param)

    def with_gen_model_input_fn(self, function):
        self.inputs = function
        return self

    def with_loss_fn(self, function, has_aux=False):
        self.gradient = nnx.grad(function, has_aux=has_aux)
        return self

    def train(self, batches):
        @nnx.jit
        def update(model, optimizer, batch):
            gradients, _ = self.gradient(model, **self.inputs(batch))
            optimizer.update(model, gradients)

        for batch in batches:
            update(self.model, self.optimizer, batch)


def nll(model, rows):
    logits, _ = model(rows[:, :-1], None, None, None)
    return jnp.mean(losses.cross_entropy(logits, rows[:, 1:]))


rows = jnp.arange(VOCABULARY).reshape(8, 8)  # every token has one successor
gone = jnp.arange(8) < 2
everything = {"input_tokens": rows, "input_mask": jnp.ones((8, 8)), "forget": jnp.zeros(8)}
some = everything | {"forget": gone.astype(float)}
model = Model(nnx.Rngs(0))
for name, batch in (("learned", everything), ("unlearned", some)):
    trainer = Trainer(model, optax.adam(2e-2)).with_gen_model_input_fn(model_input)
    trainer.with_loss_fn(unlearning_loss, has_aux=True).train([batch] * 200)
    forget, retain = nll(model, rows[gone]), nll(model, rows[~gone])
    print(f"{name:9}  NLL forget {forget:.2f}  retain {retain:.2f}")
