# SPDX-License-Identifier: Apache-2.0
"""Generation for many prompts: left-padded batches, a key/value cache, one compiled loop."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int, Key, UInt32

from unilogit_jax.errors import ConfigError, DataError
from unilogit_jax.models.build import Params
from unilogit_jax.models.checks import check_name
from unilogit_jax.models.config import DTYPES
from unilogit_jax.models.generic import PARTS, GenericDecoder, Model, cache_for
from unilogit_jax.models.prompt_rows import BUCKET, left_pad, numbers_of, row_count, until_stop
from unilogit_jax.models.sampling import check_sampling, most_likely, sample
from unilogit_jax.ops import GenericHead
from unilogit_jax.sharding import replicated
from unilogit_jax.types import Head, ModelOutput


def generate(
    model: Model,
    params: Params,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop_ids: Sequence[int],
    begun: Sequence[Sequence[int]] | None = None,
    batch_size: int = 64,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    cache_dtype: str | None = None,
    unroll: bool | None = None,
    unseen: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[int]]:
    """The next tokens of every prompt: the most likely ones, or drawn at a temperature.

    Prompts are sorted by length, batched, and padded on the left to 32 times a power of two: at
    most log2(max_length / 32) + 2 lengths are compiled, where multiples of 32 would be max_length
    / 32, for at most twice the work on prompts, which is done once whereas a step is done for every
    token. The room for answers is rounded up to a multiple of 32, since max_new_tokens is a setting
    with few values. New parameters, seeds and values of temperature, top_k and top_p compile
    nothing new. The loop ends when all rows of a batch have ended.

    Args:
      model: the decoder, or two read as one.
      params: its parameters.
      prompts: token ids, of any lengths.
      max_new_tokens: longest answer.
      stop_ids: an answer ends with the first of any of these.
      begun: the first tokens of each answer, as far as they are known, such as those of a text of
        which a scored pass found every token the likeliest. They are read together with the prompt,
        at once, and only what follows is generated.
      batch_size: prompts worked on together. Fewer prompts are padded to a power of two; on a mesh
        rows are added until every device has as many.
      temperature: 0 takes the most likely token, whatever top_k and top_p.
      top_k: draw from the k most likely tokens only; None: from all.
      top_p: draw only from the most likely tokens that hold the share p together; None: from all.
      seed: of the draws. What is drawn depends on the seed and the prompt's tokens, not on
        batch_size, the prompt's place or the other prompts; equal prompts get draws of their own.
      cache_dtype: type of cached keys and values, "float32" or "bfloat16"; None: the compute dtype.
        A smaller one saves memory; a CPU converts it at every step and is slower for it.
      unroll: compile the layers one after another, with weights of their own, instead of as a
        loop that copies each layer's weights out of their stack: quicker steps for a longer
        compilation and a second copy of the weights. None: on CPUs only.
      unseen: a token of prompts that no other one sees and that takes no place of its own: the
        next has the place after the last one that is seen. None: all tokens are seen.
      progress: called after each batch with the answers done so far, and all.

    Returns:
      For each prompt, in the order given, its new tokens; the stop id is kept if it was produced.

    Raises:
      DataError: an empty prompt, a token outside the vocabulary, or a prompt and its answer longer
        than the model's longest row.
      ConfigError: a setting outside its range.

    Example:
      >>> from unilogit_jax import models
      >>> config = models.DecoderConfig.scratch(vocab_size=16, width=8, layers=1, heads=2)
      >>> model, params = models.init(config, jax.random.key(0))
      >>> answers = generate(model, params, [[1, 2, 3], [4]], max_new_tokens=2, stop_ids=[])
      >>> [len(answer) for answer in answers]
      [2, 2]

    Note: rope kinds whose frequencies depend on the text's length (longrope, dynamic) take those of
      the length reached, token by token. Keys stay rotated as they were written, so an answer that
      crosses the original length mixes both, as in transformers (whose Phi-3 alone starts its
      cache anew at that point).
    """
    sampling = check_sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    _check_settings(max_new_tokens, batch_size, cache_dtype)
    _check_prompts(model, prompts, max_new_tokens)
    rows = row_count(min(batch_size, 1 << max(0, len(prompts) - 1).bit_length()), model.mesh)
    answers = [until_stop(tokens, stop_ids) for tokens in begun or [()] * len(prompts)]
    known = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    left = [0 if a and a[-1] in stop_ids else max_new_tokens - len(a) for a in answers]
    order = sorted((i for i, n in enumerate(left) if n > 0), key=lambda i: len(known[i]))
    numbers = numbers_of(prompts)
    unroll = _on_cpu(model.mesh) if unroll is None else unroll
    weights, head = _weights(model, params, unroll=unroll) if order else (params, None)
    most = model.config.max_length - max_new_tokens
    for first in range(0, len(order), rows):
        chosen = order[first : first + rows]
        tokens, segments = left_pad([known[i] for i in chosen], rows, most)
        hidden = None if unseen is None else (tokens == unseen) & (segments > 0)
        new = _answer(
            model,
            weights,
            head,
            tokens,
            segments,
            stops=np.asarray(list(stop_ids) or [-1], np.int32),
            limits=np.resize(np.array([left[i] for i in chosen], np.int32), rows),
            seed=np.uint32(seed),
            numbers=np.resize(numbers[chosen], (rows, 2)),
            sampling=sampling,
            slots=-(-max_new_tokens // BUCKET) * BUCKET,
            cache_dtype=cache_dtype,
            unseen=hidden,
        )
        for i, row in zip(chosen, np.asarray(new), strict=False):
            answers[i] += row[row >= 0].tolist()
        if progress is not None:
            progress(len(prompts) - max(0, len(order) - first - rows), len(prompts))
    return answers


@partial(jax.jit, static_argnames=("model", "slots", "cache_dtype"))
def _answer(
    model: Model,
    weights: Params,
    head: Head | GenericHead | None,
    tokens: Int[Array, "B L"],
    segments: Int[Array, "B L"],
    *,
    stops: Int[Array, " n"],
    limits: Int[Array, " B"],
    seed: UInt32[Array, ""],
    numbers: UInt32[Array, "B 2"],
    sampling: dict[str, Any] | None,
    slots: int,
    cache_dtype: str | None,
    unseen: Bool[Array, "B L"] | None = None,
) -> Int[Array, "B slots"]:
    """The new tokens of every row, -1 after its end; rows of padding only have none."""
    (rows, length), empty = tokens.shape, segments.sum(axis=1) == 0
    places = segments if unseen is None else jnp.where(unseen, 0, segments)
    lengths = places.sum(axis=1)
    keys = jax.vmap(partial(_row_key, jax.random.key(seed)))(numbers)

    def forward(tokens, segments, positions, cache, step, unseen=None):
        made = model.apply({"params": weights}, tokens, segments, positions, cache, unseen)
        output, cache = cast(tuple[ModelOutput, Any], made)
        logits = (output.head if head is None else head).logits(output.hidden[:, -1])
        if sampling is None:
            return most_likely(logits), cache
        now = jax.vmap(jax.random.fold_in, (0, None))(keys, step)
        return sample(logits, now, **sampling), cache

    def put(new, step, token, done):
        new = new.at[:, step].set(jnp.where(done, -1, token))
        ended = (token[:, None] == stops[None, :]).any(axis=1) | (step + 1 >= limits)
        return new, done | ended

    cache = cache_for(model, rows=rows, length=length, dtype=cache_dtype)
    if head is not None:  # layers lie apart, see `_weights`
        cache = cache.apart()
    positions = jnp.maximum(jnp.cumsum(places, axis=1) - 1, 0)
    token, cache = forward(tokens, segments, positions, cache, 0, unseen)
    new, done = put(jnp.full((rows, slots), -1, token.dtype), 0, token, empty)

    def goes_on(state):
        _, _, done, _, cache = state
        return ~done.all() & (cache.index < cache.segments.shape[1])

    def body(state):
        step, token, done, new, cache = state
        position = (lengths + step - 1)[:, None]
        token, cache = forward(token[:, None], jnp.ones_like(position), position, cache, step)
        new, done = put(new, step, token, done)
        return step + 1, token, done, new, cache

    *_, new, _ = _in_growing_room(goes_on, body, (1, token, done, new, cache), slots)
    if model.mesh is not None:
        new = jax.lax.with_sharding_constraint(new, replicated(model.mesh))
    return new


def _in_growing_room(goes_on: Any, body: Any, state: tuple[Any, ...], slots: int) -> Any:
    """A loop over states that end in a cache, which gets room for so many tokens by and by."""
    room = 0
    while room < slots:
        # Room doubles, one compiled loop for each size, lest all steps look at slots of the last.
        more = min(max(room, BUCKET), slots - room)
        state = jax.lax.while_loop(goes_on, body, (*state[:-1], state[-1].grown(more)))
        room += more
    return state


def _row_key(key: Key[Array, ""], numbers: UInt32[Array, "2"]) -> Key[Array, ""]:
    return jax.random.fold_in(jax.random.fold_in(key, numbers[0]), numbers[1])


def _weights(model: Model, params: Params, *, unroll: bool) -> tuple[Params, Any]:
    """What steps read: kernels in the compute dtype if that is smaller, the others as they are.

    For `unroll` see `_apart`; otherwise the head is the model's.
    """
    dtype = jnp.dtype(model.config.dtype)

    def narrow(path: Any, x: Array) -> Array:
        smaller = dtype.itemsize < x.dtype.itemsize
        return x.astype(dtype) if smaller and path[-1].key == "kernel" else x

    params = jax.tree_util.tree_map_with_path(narrow, params)
    return _apart(model, params) if unroll else (params, None)


@partial(jax.jit, static_argnames=("model",))
def _apart(model: Model, params: Params) -> tuple[Params, Head | GenericHead]:
    """Each layer's weights by themselves, which steps would copy out of the stack, and the head.

    The head is [D, V], which a CPU multiplies a few rows by faster than by [V, D].
    """
    if isinstance(model, GenericDecoder):
        parts = {name: _apart(model.decoder, params[name]) for name in PARTS}
        heads: Any = (head for _, head in parts.values())
        return {name: weights for name, (weights, _) in parts.items()}, model.head(*heads)
    output = model.apply({"params": params}, jnp.zeros((1, 1), jnp.int32))
    head = cast(ModelOutput, output).head
    stack, count = params["layers"], model.config.layers
    layers = tuple(jax.tree.map(lambda x, i=i: x[i], stack) for i in range(count))
    return params | {"layers": layers}, replace(head, kernel=head.kernel.T, layout="dv")


def _on_cpu(mesh: Mesh | None) -> bool:
    device = jax.devices()[0] if mesh is None else mesh.devices.flat[0]
    return device.platform == "cpu"


def _check_settings(max_new_tokens: int, batch_size: int, cache_dtype: str | None) -> None:
    if max_new_tokens < 1 or batch_size < 1:
        raise ConfigError(
            f"max_new_tokens ({max_new_tokens}) and batch_size ({batch_size}) must be at least 1."
        )
    if cache_dtype is not None:
        check_name("cache_dtype", cache_dtype, DTYPES)


def _check_prompts(model: Model, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
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
