# SPDX-License-Identifier: Apache-2.0
"""Means and sums over supervised tokens, with the averaging always said."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from unilogit_jax.errors import check_choice
from unilogit_jax.losses._common import per_token
from unilogit_jax.losses.cross_entropy import cross_entropy_from_log_odds


def masked_mean(
    values: Float[Array, "*T"],
    mask: Shaped[Array, "*T"],
    *,
    over: Literal["tokens", "examples"] = "tokens",
) -> Float[Array, ""]:
    """Mean of the values whose mask is not 0; 0 without gradient if there are none.

    tokens:   sum_t values_t / number of tokens
    examples: mean over examples of (sum_t values_t / number of the example's tokens)

    Args:
      values: one number per token; the last axis holds the tokens of one example.
      mask: nonzero where a token counts. Values elsewhere are not read, NaN included.
      over: what the mean runs over. Examples without a counting token do not count.

    Returns:
      A float32 scalar.

    Raises:
      ValueError: if `over` is neither "tokens" nor "examples".

    Example:
      >>> values = jnp.array([[1.0, 1.0, 1.0], [4.0, jnp.nan, jnp.nan]])
      >>> mask = jnp.array([[1, 1, 1], [1, 0, 0]])
      >>> masked_mean(values, mask, over="tokens").item()
      1.75
      >>> masked_mean(values, mask, over="examples").item()
      2.5

    """
    check_choice("over", over, ("tokens", "examples"))
    counts = mask.astype(bool)
    values = jnp.where(counts, values.astype(jnp.float32), 0.0)
    if over == "tokens":
        return jnp.sum(values) / _at_least_one(jnp.sum(counts))
    means = jnp.sum(values, axis=-1) / _at_least_one(jnp.sum(counts, axis=-1))
    return jnp.sum(means) / _at_least_one(jnp.sum(jnp.any(counts, axis=-1)))


def sequence_logprobs(
    logits: Float[Array, "*B L V"],
    labels: Int[Array, "*B L"],
    mask: Shaped[Array, "*B L"] | None = None,
) -> Float[Array, "*B"]:
    """Log-probability of each row's labels, summed over its supervised positions.

    sum_t log p(y_t)

    Args:
      logits: scores of every vocabulary entry; position t of the logits predicts label t.
      labels: index of the observed token; positions outside 0..V-1 (such as -100) are left out.
      mask: nonzero where a position counts; None counts all.

    Returns:
      One number per row, float32 [*B]; 0 for a row without supervised positions.

    Example:
      >>> logprobs = sequence_logprobs(jnp.zeros((1, 3, 2)), jnp.array([[0, 1, -100]]))
      >>> print(f"{logprobs[0]:.4f}")  # 2 log(1/2)
      -1.3863

    """
    return -jnp.sum(per_token(cross_entropy_from_log_odds, logits, labels, mask), axis=-1)


def _at_least_one(count: Int[Array, "*B"]) -> Float[Array, "*B"]:
    # Counted in integers: a float32 sum of ones stops at 2**24 tokens.
    return jnp.maximum(count, 1).astype(jnp.float32)
