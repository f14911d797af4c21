# SPDX-License-Identifier: Apache-2.0
"""Two decoders read as one: logits, answers, caches, on one device and on eight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax import models
from unilogit_jax.errors import ConfigError
from unilogit_jax.sharding import make_mesh

PROMPTS = [[5, 9, 3], list(range(1, 21)), [7], [4, 4, 8, 1, 2, 60, 33]]
NEW = 40
SETTINGS = {"max_new_tokens": NEW, "stop_ids": [], "batch_size": 4}


@pytest.fixture(scope="module")
def pair(make_tiny):
    """Decoder, its parameters, and others that prefer other tokens."""
    model, base = make_tiny(final_softcap=2.0)
    rng = np.random.default_rng(8)
    reinforced = jax.tree.map(
        lambda x: x + jnp.asarray(0.2 * rng.standard_normal(x.shape), x.dtype), base
    )
    return model, {"base": base, "reinforced": reinforced}


def combined(model, params, alpha):
    """Tokens [B, L] -> generic logits in float64, of whole forward passes of both models."""
    forward = jax.jit(lambda params, tokens: model.apply({"params": params}, tokens).logits())

    def logits(tokens):
        both = (forward(params[name], jnp.asarray(tokens)) for name in ("base", "reinforced"))
        base, reinforced = (np.asarray(x, np.float64) for x in both)
        return base - alpha * np.maximum(reinforced - base, 0.0)

    return logits


def word_by_word(logits, prompt, new):
    """Greedy new tokens, each from whole forward passes over all before it."""
    row = list(prompt)
    for _ in range(new):
        padded = [row + [0] * (64 - len(row))]
        row.append(int(np.argmax(logits(padded)[0, len(row) - 1])))
    return row[len(prompt) :]


@pytest.fixture(scope="module")
def expected(pair):
    """Greedy answers without a cache."""
    logits = combined(*pair, 1.5)
    return [word_by_word(logits, prompt, NEW) for prompt in PROMPTS]


def test_the_logits_are_those_of_the_formula(pair, rng):
    model, params = pair
    tokens = rng.integers(0, 64, (3, 9))
    both = models.GenericDecoder(model, 5.0)
    found = both.apply({"params": params}, jnp.asarray(tokens)).logits()
    wanted = combined(model, params, 5.0)(tokens)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    base = combined(model, params, 0.0)(tokens)
    assert (wanted < base - 0.1).mean() > 0.2 and (wanted == base).mean() > 0.2


@pytest.mark.parametrize("unroll", [True, False])
def test_answers_are_those_of_whole_forward_passes_word_for_word(pair, expected, unroll):
    model, params = pair
    both = models.GenericDecoder(model, 1.5)
    assert models.generate(both, params, PROMPTS, **SETTINGS, unroll=unroll) == expected
    for one in params.values():
        assert models.generate(model, one, PROMPTS, **SETTINGS, unroll=unroll) != expected


@pytest.mark.parametrize("unroll", [True, False])
def test_eight_devices_give_the_answers_of_one(pair, expected, unroll):
    model, params = pair
    mesh = make_mesh(fsdp=4, tensor=2)
    places = models.param_shardings(model, mesh)
    spread = {name: jax.device_put(one, places) for name, one in params.items()}
    both = models.GenericDecoder(model.clone(mesh=mesh), 1.5)
    assert models.generate(both, spread, PROMPTS, **SETTINGS, unroll=unroll) == expected


@pytest.mark.parametrize("drawn", [{}, {"temperature": 0.9, "top_p": 0.8, "seed": 3}])
def test_with_alpha_0_the_base_answers(pair, drawn):
    model, params = pair
    both = models.GenericDecoder(model, 0.0)
    alone = models.generate(model, params["base"], PROMPTS, **SETTINGS, **drawn)
    assert models.generate(both, params, PROMPTS, **SETTINGS, **drawn) == alone


def test_begun_answers_go_on_as_they_would_have(pair, expected):
    model, params = pair
    begun = [answer[:n] for answer, n in zip(expected, (3, 0, NEW, 1), strict=True)]
    both = models.GenericDecoder(model, 1.5)
    assert models.generate(both, params, PROMPTS, **SETTINGS, begun=begun) == expected


@pytest.mark.parametrize("alpha", [-1.0, float("nan"), float("inf")])
def test_a_strength_out_of_range_is_refused(pair, alpha):
    with pytest.raises(ConfigError, match="alpha must be a number of at least 0, got"):
        models.GenericDecoder(pair[0], alpha)
