# SPDX-License-Identifier: Apache-2.0
import importlib
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from unilogit_jax import models
from unilogit_jax.errors import ConfigError, DataError
from unilogit_jax.models.prompt_rows import left_pad
from unilogit_jax.models.sampling import sample
from unilogit_jax.sharding import make_mesh

module = importlib.import_module("unilogit_jax.models.generate")
PROMPTS = [[5, 9, 3], list(range(1, 21)), [7], [4, 4, 8, 1, 2, 60, 33]]
GREEDY = {"max_new_tokens": 6, "stop_ids": [], "batch_size": 4}
DRAWN = {"max_new_tokens": 8, "stop_ids": [], "batch_size": 4, "temperature": 1.0}


def one_by_one(model, params, prompt, new, length):
    """Greedy new tokens from whole forward passes."""
    forward = jax.jit(lambda tokens: model.apply({"params": params}, tokens).logits())
    row = list(prompt)
    for _ in range(new):
        padded = jnp.asarray([row + [0] * (length - len(row))])
        row.append(int(np.argmax(forward(padded)[0, len(row) - 1])))
    return row[len(prompt) :]


@pytest.fixture(scope="module")
def without_cache(tiny):
    """Greedy answers of 6 tokens from whole forward passes, one prompt at a time."""
    return [one_by_one(*tiny, prompt, 6, 32) for prompt in PROMPTS]


@pytest.mark.parametrize("unroll", [True, False])
def test_batched_answers_equal_one_by_one_forwards_without_a_cache(tiny, without_cache, unroll):
    assert models.generate(*tiny, PROMPTS, **GREEDY, unroll=unroll) == without_cache


def test_the_batch_size_does_not_change_the_answers(tiny, without_cache):
    short = [0, 2, 3]
    prompts = [PROMPTS[i] for i in short]
    made = models.generate(*tiny, prompts, **(GREEDY | {"batch_size": 2}))
    assert made == [without_cache[i] for i in short]


def test_drawn_answers_are_those_of_a_full_forward_also_where_the_cache_grows(make_tiny):
    model, params = make_tiny(max_length=128)
    prompts = [[3] * 40, [9, 2, 41]]
    settings = {"temperature": 0.8, "top_k": 20, "top_p": 0.9}
    made = models.generate(
        model, params, prompts, max_new_tokens=70, stop_ids=[], seed=5, **settings
    )
    forward = jax.jit(lambda tokens: model.apply({"params": params}, tokens).logits())
    for prompt, answer in zip(prompts, made, strict=True):
        row = prompt + answer
        logits = forward(jnp.asarray([row + [0] * (128 - len(row))]))[0, len(prompt) - 1 :][:70]
        key = jax.random.key(5)
        for number in (zlib.crc32(np.asarray(prompt, np.int32).tobytes()), 0):
            key = jax.random.fold_in(key, np.uint32(number))
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(70))
        assert answer == sample(logits, keys, **settings).tolist()


def test_an_answer_ends_with_the_stop_id_and_keeps_it(tiny, without_cache):
    stops = [without_cache[0][2], without_cache[1][1]]
    expected = []
    for answer in without_cache:
        ends = [i for i, token in enumerate(answer) if token in stops]
        expected.append(answer[: ends[0] + 1] if ends else answer)
    assert any(len(answer) < 6 for answer in expected)
    assert models.generate(*tiny, PROMPTS, **(GREEDY | {"stop_ids": stops})) == expected


def test_what_an_answer_is_known_to_begin_with_is_not_generated_again(tiny, without_cache):
    stop = without_cache[1][3]
    whole = models.generate(*tiny, PROMPTS, **(GREEDY | {"stop_ids": [stop]}))
    assert whole[1] == without_cache[1][:4]
    # Some, all up to the stop and more, nothing, all of the room.
    begun = [without_cache[0][:2], without_cache[1], [], without_cache[3]]
    made = models.generate(*tiny, PROMPTS, **(GREEDY | {"stop_ids": [stop]}), begun=begun)
    assert made == whole
    # What is given is taken as it is, and the rest follows from it.
    other = [1 + without_cache[0][0] % 60]
    made = models.generate(*tiny, PROMPTS[:1], **GREEDY, begun=[other])
    assert made == [other + one_by_one(*tiny, PROMPTS[0] + other, 5, 32)]


def test_the_loop_ends_with_the_last_open_row(make_tiny, monkeypatch):
    model, params = make_tiny(vocab_size=62)
    answers = models.generate(model, params, PROMPTS[:2], **GREEDY)
    stops = [answers[0][1], answers[1][3]]
    steps = []

    def counted(logits):
        jax.debug.callback(lambda: steps.append(1))
        return most_likely(logits)

    most_likely = module.most_likely
    monkeypatch.setattr(module, "most_likely", counted)
    # Another name makes another model to jit, which would not trace the same one again.
    model = model.clone(name="counted")
    made = models.generate(model, params, PROMPTS[:2], **(GREEDY | {"stop_ids": stops}))
    jax.effects_barrier()
    assert len(steps) == max(map(len, made)) < 6


def test_new_parameters_and_settings_compile_nothing_new(tiny):
    model, params = tiny
    models.generate(model, params, PROMPTS, **DRAWN, top_p=0.9)
    models.generate(model, params, PROMPTS, **GREEDY)
    before = module._answer._cache_size()
    other = jax.tree.map(lambda x: 1.1 * x, params)
    prompts = [[1] * 17, [2], [3, 3], [4]]
    models.generate(model.clone(), other, prompts, **(GREEDY | {"max_new_tokens": 30}))
    drawn = DRAWN | {"temperature": 0.5, "top_p": 0.3, "seed": 4}
    models.generate(model, params, prompts, **drawn)
    assert module._answer._cache_size() == before


def test_prompts_of_all_lengths_compile_once_per_power_of_two(make_tiny):
    model, params = make_tiny(layers=1, max_length=192)
    before = module._answer._cache_size()
    prompts = [[1 + n % 60] * n for n in range(1, 151, 7)]
    settings = {"max_new_tokens": 2, "stop_ids": [], "batch_size": 3}
    assert len(models.generate(model, params, prompts, **settings)) == len(prompts)
    # 32, 64, 128, and what is left below the model's longest row.
    assert module._answer._cache_size() - before == 4


def test_a_prompt_may_leave_just_the_room_for_its_answer(tiny):
    prompt = [8, 1, 30, 2] * 14 + [9, 9]
    made = models.generate(*tiny, [prompt], **GREEDY)
    assert made == [one_by_one(*tiny, prompt, 6, 64)]
    # The bucket of 64 is cut to that.
    assert left_pad([prompt], 1, 58)[0].shape == (1, 58)


@pytest.mark.parametrize("unroll", [True, False])
def test_eight_devices_give_the_answers_of_one(tiny, without_cache, unroll):
    model, params = tiny
    mesh = make_mesh(fsdp=4, tensor=2)
    spread = jax.device_put(params, models.param_shardings(model, mesh))
    model = model.clone(mesh=mesh)
    assert models.generate(model, spread, PROMPTS, **GREEDY, unroll=unroll) == without_cache
    # Three rows would not divide over the mesh: a fourth is added, as compiled before.
    compiled, three = module._answer._cache_size(), GREEDY | {"batch_size": 3}
    made = models.generate(model, spread, PROMPTS[:3], **three, unroll=unroll)
    assert made == without_cache[:3]
    assert module._answer._cache_size() == compiled


@pytest.mark.parametrize("unroll", [True, False])
def test_rows_and_heads_of_the_cache_are_divided_over_the_mesh(tiny, unroll):
    model, params = tiny
    mesh = make_mesh(fsdp=4, tensor=2)
    spread = jax.device_put(params, models.param_shardings(model, mesh))
    model = model.clone(mesh=mesh)
    made = models.make_cache(model.config, rows=4, length=32, mesh=mesh)
    assert made.keys.sharding.spec == PartitionSpec(None, ("data", "fsdp"), "tensor", None, None)
    text = lowered(model, spread, unroll=unroll).compile().as_text()
    layers = "" if unroll else "2,"
    assert f"f32[{layers}1,1,64,8]" in text
    assert f"f32[{layers}4,2,64,8]" not in text
    uneven = models.make_cache(model.config, rows=3, length=32, mesh=make_mesh(fsdp=2, tensor=4))
    assert uneven.values.sharding.is_fully_replicated


def lowered(model, params, *, unroll, cache_dtype=None):
    """What `generate` compiles for four rows of at most 32 tokens and as many new ones."""
    tokens = np.zeros((4, 32), np.int32)
    return module._answer.lower(
        model,
        *module._weights(model, params, unroll=unroll),
        tokens,
        tokens,
        stops=np.zeros(1, np.int32),
        limits=np.full(4, 6, np.int32),
        seed=np.uint32(0),
        numbers=np.zeros((4, 2), np.uint32),
        sampling=None,
        slots=32,
        cache_dtype=cache_dtype,
    )


def by_steps(model, params, text, *, first, dtype=None):
    """Logits of a prefill of `first` tokens and of single steps behind it, and the last cache.

    Twice: with layers and their caches stacked, and with each by itself.
    """

    @jax.jit
    def step(params, cache, text):
        output, cache = model.apply({"params": params}, *text, cache)
        return output.logits(), cache

    rows, length = text[0].shape
    cache = models.make_cache(model.config, rows=rows, length=length, dtype=dtype)
    begun = step(params, cache, [x[:, :first] for x in text])
    for apart in (False, True):
        logits, cache = begun
        weights, _ = module._weights(model, params, unroll=apart)
        cache = cache.apart() if apart else cache
        parts = [logits]
        for t in range(first, length):
            logits, cache = step(weights, cache, [x[:, t : t + 1] for x in text])
            parts.append(logits)
        yield np.concatenate(parts, axis=1), cache


@pytest.mark.parametrize(
    "fields",
    [
        {"local_layers": (True, True)},
        {"layers": 3, "local_layers": (True, False, True), "attention_softcap": 2.0},
    ],
)
def test_prefill_and_steps_of_local_layers_equal_one_full_forward(make_tiny, rng, fields):
    model, params = make_tiny(window=5, **fields)
    pads, columns = jnp.asarray([[0], [3], [9]]), jnp.arange(16)[None, :]
    tokens = jnp.asarray(rng.integers(0, 64, (3, 16)))
    real = columns >= pads
    text = (tokens, real.astype(jnp.int32), jnp.maximum(columns - pads, 0))
    full = jax.jit(lambda params: model.apply({"params": params}, *text).logits())(params)
    far = jnp.where(columns == 3, tokens + 1, tokens) % 64
    moved = model.apply({"params": params}, far, *text[1:]).logits()
    seen_from_the_end = np.abs(moved - full)[:2, -1].max()
    assert (seen_from_the_end < 1e-6) == all(fields["local_layers"])
    for made, cache in by_steps(model, params, text, first=11):
        assert int(cache.index) == 16
        np.testing.assert_allclose(made[real], full[real], rtol=0, atol=1e-5)


def test_a_bfloat16_cache_is_near_the_float32_result(tiny, rng):
    model, params = tiny
    tokens = jnp.asarray(rng.integers(0, 64, (2, 12)))
    places = jnp.broadcast_to(jnp.arange(12)[None, :], tokens.shape)
    text = (tokens, jnp.ones_like(tokens), places)
    exact = model.apply({"params": params}, *text).logits()
    for made, cache in by_steps(model, params, text, first=8, dtype="bfloat16"):
        assert {str(x.dtype) for x in jax.tree.leaves((cache.keys, cache.values))} == {"bfloat16"}
        worst = np.linalg.norm(made - exact) / np.linalg.norm(exact)
        assert 1e-5 < worst < 2e-2


def test_the_cache_has_the_compute_dtype_unless_told_otherwise(tiny):
    assert "2x4x2x32x8xbf16" not in lowered(*tiny, unroll=False).as_text()
    assert "2x4x2x32x8xbf16" in lowered(*tiny, unroll=False, cache_dtype="bfloat16").as_text()
    config = models.DecoderConfig.scratch(vocab_size=8, width=8, heads=2, dtype="bfloat16")
    assert models.make_cache(config, rows=1, length=1).keys.dtype == jnp.bfloat16


def test_kernels_rounded_once_give_the_bits_of_kernels_rounded_at_every_step(make_tiny, rng):
    model, params = make_tiny(dtype="bfloat16", norm="rms_late", qkv_bias=True)
    narrow, _ = module._weights(model, params, unroll=False)
    assert {str(x.dtype) for x in jax.tree.leaves(narrow)} == {"bfloat16", "float32"}
    wide = model.clone(config=models.DecoderConfig(**(vars(model.config) | {"dtype": "float32"})))
    kept, _ = module._weights(wide, narrow, unroll=False)
    assert all(a is b for a, b in zip(*map(jax.tree.leaves, (kept, narrow)), strict=True))
    tokens = jnp.asarray(rng.integers(0, 64, (2, 8)))
    logits = jax.jit(lambda params: model.apply({"params": params}, tokens).logits())
    np.testing.assert_array_equal(logits(narrow), logits(params))


def test_no_prompts_give_no_answers(tiny):
    assert models.generate(*tiny, [], max_new_tokens=3, stop_ids=[0]) == []


@pytest.mark.parametrize(
    ("prompts", "settings", "error", "message"),
    [
        ([[1], []], {}, DataError, "prompt 1 is empty"),
        ([[64]], {}, DataError, "prompt 0 has a token outside the vocabulary of 64"),
        ([[1] * 61], {}, DataError, r"prompt 0 has 61 tokens; .* longest row \(64\)"),
        ([[1]], {"max_new_tokens": 0}, ConfigError, "must be at least 1"),
        ([[1]], {"temperature": -0.5}, ConfigError, "temperature must be a finite number"),
        ([[1]], {"seed": -1}, ConfigError, "seed must be a whole number"),
        ([[1]], {"cache_dtype": "float16"}, ConfigError, "cache_dtype 'float16' is unknown"),
    ],
)
def test_a_prompt_or_setting_that_cannot_work_is_refused(tiny, prompts, settings, error, message):
    with pytest.raises(error, match=message):
        models.generate(*tiny, prompts, **({"max_new_tokens": 4, "stop_ids": []} | settings))
