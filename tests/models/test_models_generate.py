# SPDX-License-Identifier: Apache-2.0
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax import models
from unilogit_jax.errors import ConfigError, DataError
from unilogit_jax.sharding import make_mesh

PROMPTS = [[5, 9, 3], list(range(1, 21)), [7], [4, 4, 8, 1, 2, 60, 33]]


@pytest.fixture(scope="module")
def without_cache(tiny):
    """Greedy answers of 6 tokens from whole forward passes, one prompt at a time."""
    model, params = tiny
    forward = jax.jit(lambda tokens: model.apply({"params": params}, tokens).logits())
    answers = []
    for prompt in PROMPTS:
        row = list(prompt)
        for _ in range(6):
            padded = jnp.asarray([row + [0] * (32 - len(row))])
            row.append(int(np.argmax(forward(padded)[0, len(row) - 1])))
        answers.append(row[len(prompt) :])
    return answers


def test_batched_answers_equal_one_by_one_forwards_without_a_cache(tiny, without_cache):
    made = models.generate(*tiny, PROMPTS, max_new_tokens=6, stop_ids=[], batch_size=4)
    assert made == without_cache


def test_the_batch_size_does_not_change_the_answers(tiny, without_cache):
    short = [0, 2, 3]
    prompts = [PROMPTS[i] for i in short]
    made = models.generate(*tiny, prompts, max_new_tokens=6, stop_ids=[], batch_size=2)
    assert made == [without_cache[i] for i in short]


def test_an_answer_ends_with_the_stop_id_and_keeps_it(tiny, without_cache):
    stops = [without_cache[0][2], without_cache[1][1]]
    expected = []
    for answer in without_cache:
        ends = [i for i, token in enumerate(answer) if token in stops]
        expected.append(answer[: ends[0] + 1] if ends else answer)
    assert any(len(answer) < 6 for answer in expected)
    made = models.generate(*tiny, PROMPTS, max_new_tokens=6, stop_ids=stops, batch_size=4)
    assert made == expected


def test_new_parameters_and_lengths_of_one_bucket_compile_nothing_new(tiny):
    model, params = tiny
    compiled = importlib.import_module("unilogit_jax.models.generate")._answer
    settings = {"max_new_tokens": 6, "stop_ids": [], "batch_size": 4}
    models.generate(model, params, PROMPTS, **settings)
    before = compiled._cache_size()
    other = jax.tree.map(lambda x: 1.1 * x, params)
    models.generate(model.clone(), other, [[1] * 17, [2], [3, 3], [4]], **settings)
    assert compiled._cache_size() == before


def test_eight_devices_give_the_answers_of_one(tiny, without_cache):
    model, params = tiny
    mesh = make_mesh(fsdp=4, tensor=2)
    spread = jax.device_put(params, models.param_shardings(model, mesh))
    made = models.generate(
        model.clone(mesh=mesh), spread, PROMPTS, max_new_tokens=6, stop_ids=[], batch_size=4
    )
    assert made == without_cache


def test_no_prompts_give_no_answers(tiny):
    assert models.generate(*tiny, [], max_new_tokens=3, stop_ids=[0]) == []


@pytest.mark.parametrize(
    ("prompts", "settings", "error", "message"),
    [
        ([[1], []], {}, DataError, "prompt 1 is empty"),
        ([[64]], {}, DataError, "prompt 0 has a token outside the vocabulary of 64"),
        ([[1] * 61], {}, DataError, r"prompt 0 has 61 tokens; .* longest row \(64\)"),
        ([[1]], {"max_new_tokens": 0}, ConfigError, "must be at least 1"),
    ],
)
def test_a_prompt_or_setting_that_cannot_work_is_refused(tiny, prompts, settings, error, message):
    with pytest.raises(error, match=message):
        models.generate(*tiny, prompts, **({"max_new_tokens": 4, "stop_ids": []} | settings))
