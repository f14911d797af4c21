# SPDX-License-Identifier: Apache-2.0
"""A teacher made of two models' logits, of which a few tokens per position are stored."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from unilogit_jax.types import ModelOutput

BLOCK = 512
"""Positions whose logits are there at once."""


def generic_logits(
    base: Float[Array, "*T V"], reinforced: Float[Array, "*T V"], *, alpha: float
) -> Float[Array, "*T V"]:
    """Logits without what a reinforced model prefers: base - alpha relu(reinforced - base).

    Args:
      base: logits of the model; -inf stays -inf.
      reinforced: those of a model that knows better what is to be forgotten.
      alpha: strength; 0 gives `base`.

    Example:
      >>> generic_logits(jnp.array([[1.0, 2.0]]), jnp.array([[2.0, 0.0]]), alpha=5.0).tolist()
      [[-4.0, 2.0]]

    Reference: arXiv:2310.02238, equation 1.
    """
    lowered = base - alpha * jax.nn.relu(reinforced - base)
    return jnp.where(base == -jnp.inf, -jnp.inf, lowered)


def generic_top(
    base: ModelOutput,
    reinforced: ModelOutput,
    labels: Int[Array, "B L"],
    *,
    alpha: float,
    k: int,
    block: int = BLOCK,
) -> tuple[
    Float[Array, "B L"], Int[Array, "B L {k}"], Float[Array, "B L {k}"], Float[Array, "B L"]
]:
    """Of softmax(generic logits): the label's log-odds, the k likeliest others, and the rest.

    Args:
      base: the model's hidden states and head.
      reinforced: those of the reinforced model, on the same tokens.
      labels: tokens that are no others; where one is negative the numbers mean nothing.
      alpha: as in `generic_logits`.
      k: how many tokens; where the vocabulary has fewer, the rest is -1.
      block: positions whose logits [block, V] are there at once; at least one column of the batch.

    Returns:
      Log-odds of the labels, tokens, their log-probabilities, log-probability of all the others; no
      log-probability is below the least float32.

    Example:
      >>> from unilogit_jax.types import Head
      >>> head = Head(kernel=jnp.array([[3.0], [1.0], [2.0]]))
      >>> knows = ModelOutput(hidden=jnp.full((1, 1, 1), 2.0), head=head)  # all logits are higher
      >>> start = ModelOutput(hidden=jnp.ones((1, 1, 1)), head=head)
      >>> _, tokens, _, _ = generic_top(start, knows, jnp.array([[0]]), alpha=0.0, k=1)
      >>> tokens.tolist()
      [[[2]]]
      >>> generic_top(start, knows, jnp.array([[0]]), alpha=5.0, k=1)[1].tolist()
      [[[1]]]

    """
    rows, length = labels.shape
    size = max(1, block // rows)
    count = -(-length // size)

    def cut(x: Array) -> Array:
        more = [(0, 0), (0, count * size - length), *((0, 0) for _ in x.shape[2:])]
        return jnp.moveaxis(jnp.pad(x, more).reshape(rows, count, size, *x.shape[2:]), 1, 0)

    def one(part: tuple[Array, Array, Array]) -> tuple[Array, ...]:
        hidden, other, labels = part
        # A difference of logits times alpha: on a TPU only this multiplies float32 whole.
        with jax.default_matmul_precision("highest"):
            pair = base.head.logits(hidden), reinforced.head.logits(other)
        return _stored(generic_logits(*pair, alpha=alpha), labels, k)

    found = jax.lax.map(one, (cut(base.hidden), cut(reinforced.hidden), cut(labels)))
    joined = (jnp.moveaxis(x, 0, 1) for x in found)
    odds, tokens, logprobs, tail = (
        x.reshape(rows, count * size, *x.shape[3:])[:, :length] for x in joined
    )
    return odds, tokens, logprobs, tail


def _stored(z: Float[Array, "*T V"], labels: Int[Array, "*T"], k: int) -> tuple[Array, ...]:
    """What is stored of softmax(z)."""
    own = jax.lax.broadcasted_iota(labels.dtype, z.shape, z.ndim - 1) == labels[..., None]
    label = jnp.max(jnp.where(own, z, -jnp.inf), axis=-1)
    others = jnp.where(own, -jnp.inf, z)
    every = jax.nn.logsumexp(z, axis=-1)
    best, tokens = jax.lax.top_k(others, min(k, z.shape[-1]))
    rest = jnp.put_along_axis(others, tokens, -jnp.inf, axis=-1, inplace=False)
    tokens = jnp.where(best > -jnp.inf, tokens, -1)
    more = [(0, 0)] * (z.ndim - 1) + [(0, k - tokens.shape[-1])]
    tokens = jnp.pad(tokens, more, constant_values=-1)
    best = jnp.pad(best, more, constant_values=-jnp.inf)
    least = jnp.finfo(jnp.float32).min  # infinities would make NaNs of zero times them
    return (
        jnp.where(label > -jnp.inf, label - jax.nn.logsumexp(others, axis=-1), 0.0),
        tokens,
        jnp.maximum(best - every[..., None], least),
        jnp.maximum(jax.nn.logsumexp(rest, axis=-1) - every, least),
    )
