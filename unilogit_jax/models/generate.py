# SPDX-License-Identifier: Apache-2.0
"""Greedy generation for many prompts: left-padded batches, a key/value cache, one compiled loop."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from unilogit_jax.errors import ConfigError, DataError
from unilogit_jax.models.build import Params
from unilogit_jax.models.cache import make_cache
from unilogit_jax.models.decoder import Decoder
from unilogit_jax.sharding import replicated

BUCKET = 32
"""Prompt lengths are padded to multiples of this, so that few shapes are compiled."""


def generate(
    model: Decoder,
    params: Params,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop_ids: Sequence[int],
    batch_size: int = 64,
) -> list[list[int]]:
    """The most likely next tokens of every prompt, one after the other (greedy).

    Compiles once per (batch size, prompt length to the next multiple of 16, max_new_tokens); new
    parameters do not compile again. Fewer prompts than `batch_size` are padded to a power of two.

    Args:
      model: the decoder.
      params: its parameters.
      prompts: token ids, of any lengths.
      max_new_tokens: longest answer.
      stop_ids: an answer ends with the first of these.
      batch_size: prompts worked on together.

    Returns:
      For each prompt, in the order given, its new tokens; the stop id is kept if it was produced.

    Raises:
      DataError: an empty prompt, a token outside the vocabulary, or a prompt and its answer longer
        than the model's longest row.
      ConfigError: max_new_tokens or batch_size below 1.

    """
    if max_new_tokens < 1 or batch_size < 1:
        raise ConfigError(
            f"max_new_tokens ({max_new_tokens}) and batch_size ({batch_size}) must be at least 1."
        )
    _check_prompts(model, prompts, max_new_tokens)
    rows = min(batch_size, 1 << max(0, len(prompts) - 1).bit_length())
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    stops = np.asarray(list(stop_ids) or [-1], np.int32)
    answers: list[list[int]] = [[] for _ in prompts]
    for first in range(0, len(order), rows):
        chosen = order[first : first + rows]
        tokens, segments = _left_pad([prompts[i] for i in chosen], rows)
        new = _answer(model, params, tokens, segments, stops, max_new_tokens=max_new_tokens)
        for i, row in zip(chosen, np.asarray(new), strict=False):
            answers[i] = row[row >= 0].tolist()
    return answers


@partial(jax.jit, static_argnames=("model", "max_new_tokens"))
def _answer(
    model: Decoder,
    params: Params,
    tokens: Int[Array, "B L"],
    segments: Int[Array, "B L"],
    stops: Int[Array, " n"],
    *,
    max_new_tokens: int,
) -> Int[Array, "B new"]:
    """The new tokens of every row, -1 after its end; rows of padding only have none."""
    rows, length = tokens.shape
    cache = make_cache(model.config, rows=rows, length=length + max_new_tokens)
    lengths = segments.sum(axis=1)
    positions = jnp.maximum(jnp.arange(length)[None, :] - (length - lengths)[:, None], 0)

    def forward(tokens, segments, positions, cache):
        output, cache = model.apply({"params": params}, tokens, segments, positions, cache)
        return jnp.argmax(output.head.logits(output.hidden[:, -1]), axis=-1), cache

    def put(new, step, token, done):
        new = new.at[:, step].set(jnp.where(done, -1, token))
        return new, done | (token[:, None] == stops[None, :]).any(axis=1)

    def goes_on(state):
        step, _, done, _, _ = state
        return (step < max_new_tokens) & ~done.all()

    def body(state):
        step, token, done, new, cache = state
        position = (lengths + step - 1)[:, None]
        token, cache = forward(token[:, None], jnp.ones_like(position), position, cache)
        new, done = put(new, step, token, done)
        return step + 1, token, done, new, cache

    token, cache = forward(tokens, segments, positions, cache)
    new = jnp.full((rows, max_new_tokens), -1, token.dtype)
    new, done = put(new, 0, token, lengths == 0)
    *_, new, _ = jax.lax.while_loop(goes_on, body, (1, token, done, new, cache))
    if model.mesh is not None:
        new = jax.lax.with_sharding_constraint(new, replicated(model.mesh))
    return new


def _left_pad(prompts: Sequence[Sequence[int]], rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and segments (1 token, 0 padding) of a batch; missing rows are all padding."""
    longest = max(len(prompt) for prompt in prompts)
    length = -(-longest // BUCKET) * BUCKET
    tokens = np.zeros((rows, length), np.int32)
    segments = np.zeros((rows, length), np.int32)
    for row, prompt in enumerate(prompts):
        tokens[row, length - len(prompt) :] = prompt
        segments[row, length - len(prompt) :] = 1
    return tokens, segments


def _check_prompts(model: Decoder, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    config = model.config
    for i, prompt in enumerate(prompts):
        if not len(prompt):
            raise DataError(f"prompt {i} is empty: give at least one token.")
        if min(prompt) < 0 or max(prompt) >= config.vocab_size:
            raise DataError(
                f"prompt {i} has a token outside the vocabulary of {config.vocab_size}: "
                "was it made with another tokenizer?"
            )
        if len(prompt) + max_new_tokens > config.max_length:
            raise DataError(
                f"prompt {i} has {len(prompt)} tokens; with max_new_tokens = {max_new_tokens} that "
                f"is more than the model's longest row ({config.max_length})."
            )
