# SPDX-License-Identifier: Apache-2.0
"""Choosing the next token from logits: the most likely one, or one drawn by chance."""

import math
from numbers import Integral, Real
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from unilogit_jax.errors import ConfigError


def most_likely(logits: Float[Array, "B V"]) -> Int[Array, " B"]:
    """The token with the largest logit, the first of equals; token 0 in a row with a NaN.

    Two plain reductions, which a CPU does ten times as fast as the one that finds the value and its
    place together.

    Example:
      >>> most_likely(jnp.array([[0.0, 2.0, 2.0]])).tolist()
      [1]

    """
    size = logits.shape[1]
    largest = jnp.max(logits, axis=1, keepdims=True)
    return jnp.min(jnp.where(logits < largest, size, jnp.arange(size)[None, :]), axis=1)


def sample(
    logits: Float[Array, "B V"],
    keys: Key[Array, " B"],
    *,
    temperature: float | Float[Array, ""],
    top_k: int | Int[Array, ""] | None = None,
    top_p: float | Float[Array, ""] | None = None,
) -> Int[Array, " B"]:
    """A token of every row, drawn from softmax(keep_likely(logits)).

    argmax_v (kept_v + Gumbel noise)

    Args:
      logits: of the next token, float32.
      keys: a random key per row; a row's token depends on its own key only.
      temperature: larger than 0.
      top_k: as in `keep_likely`.
      top_p: as in `keep_likely`.

    Returns:
      Token ids.

    Example:
      >>> logits = jnp.array([[0.0, 9.0, 8.0]])
      >>> sample(logits, jax.random.key(0)[None], temperature=0.5, top_k=1).tolist()
      [1]

    Reference: arXiv:1611.00712, section 3.1 (the Gumbel-max trick).
    """
    kept = keep_likely(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    noise = jax.vmap(lambda key: jax.random.gumbel(key, logits.shape[1:], logits.dtype))(keys)
    return most_likely(kept + noise)


def keep_likely(
    logits: Float[Array, "B V"],
    *,
    temperature: float | Float[Array, ""] = 1.0,
    top_k: int | Int[Array, ""] | None = None,
    top_p: float | Float[Array, ""] | None = None,
) -> Float[Array, "B V"]:
    """Logits over the temperature, -inf where a token is not to be drawn.

    In this order, as in transformers: logits / temperature; top_k keeps the tokens with fewer than
    k others above them; top_p keeps those above which the others hold less than p of what remains.

    Args:
      logits: of the next token, float32.
      temperature: larger than 0; below 1 it sharpens the distribution.
      top_k: at least 1; None keeps all.
      top_p: in (0, 1]; None keeps all.

    Returns:
      Logits of the tokens kept. Tokens tied with the last one kept are kept too.

    Example:
      >>> keep_likely(jnp.array([[0.0, 9.0, 8.0]]), top_k=2).tolist()
      [[-inf, 9.0, 8.0]]

    Reference: arXiv:1805.04833, section 5.4 (top_k); arXiv:1904.09751, section 3.1 (top_p).
    """
    z = logits / temperature
    if top_k is not None:
        z = _cut(z, jnp.ones_like(z, jnp.int32), top_k)
    if top_p is not None:
        z = _cut(z, jax.nn.softmax(z, axis=1), top_p)
    return z


def check_sampling(
    *, temperature: Any, top_k: Any = None, top_p: Any = None, seed: Any = 0
) -> dict[str, Any] | None:
    """The arguments of `sample` from settings; None for temperature 0, the most likely token.

    Raises:
      ConfigError: a setting outside its range.

    Example:
      >>> check_sampling(temperature=0.7, top_p=1.0)
      {'temperature': 0.7, 'top_k': None, 'top_p': None}

    """
    if not _is(Real, temperature) or not 0 <= temperature < math.inf:
        raise ConfigError(
            f"temperature must be a finite number of at least 0 (0: the most likely token), "
            f"got {temperature}."
        )
    if top_k is not None and (not _is(Integral, top_k) or top_k < 1):
        raise ConfigError(
            f"top_k must be a whole number of at least 1, or None to keep all tokens, got {top_k}."
        )
    if top_p is not None and (not _is(Real, top_p) or not 0 < top_p <= 1):
        raise ConfigError(
            f"top_p must be larger than 0 and at most 1, or None to keep all tokens, got {top_p}."
        )
    if not _is(Integral, seed) or not 0 <= seed < 1 << 32:
        raise ConfigError(f"seed must be a whole number from 0 to 2^32 - 1, got {seed}.")
    if temperature == 0:
        return None
    return {
        "temperature": float(temperature),
        "top_k": None if top_k is None else int(top_k),
        # Sums of probabilities are rounded: for 1 they would cut tokens that are to be kept.
        "top_p": None if top_p is None or top_p == 1 else float(top_p),
    }


def _is(kind: type, value: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _cut(
    z: Float[Array, "B V"],
    weights: Float[Array, "B V"] | Int[Array, "B V"],
    most: float | int | Array,
) -> Float[Array, "B V"]:
    """The entries of z for which the weights of all larger ones sum to less than `most`, or -inf.

    The least entry kept is found by halving the range of all float32 numbers: 32 sums over the row
    instead of a sort, which is slow everywhere and has to gather a vocabulary that is divided.
    """
    order = _ordered(z)

    def halve(_: object, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        # (low + high) / 2, rounded down, without overflow.
        middle = (low & high) + ((low ^ high) >> 1)
        above = jnp.sum(jnp.where(order > middle, weights, 0), axis=1, keepdims=True)
        enough = above < most
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    limits = jnp.iinfo(jnp.int32)
    low, high = (jnp.full_like(order[:, :1], x) for x in (limits.min, limits.max))
    _, least = jax.lax.fori_loop(0, 32, halve, (low, high))
    return jnp.where(order >= least, z, -jnp.inf)


def _ordered(z: Float[Array, "B V"]) -> Int[Array, "B V"]:
    """Whole numbers in the order of the float32 numbers: the bits, negative ones turned round."""
    bits = jax.lax.bitcast_convert_type(z.astype(jnp.float32), jnp.int32)
    return jnp.where(bits < 0, bits ^ jnp.iinfo(jnp.int32).max, bits)
