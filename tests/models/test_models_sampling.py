# SPDX-License-Identifier: Apache-2.0
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2

from unilogit_jax import models
from unilogit_jax.errors import ConfigError
from unilogit_jax.models.sampling import check_sampling, keep_likely, most_likely, sample

PROMPTS = [[5, 9, 3], list(range(1, 21)), [7], [4, 4, 8, 1, 2, 60, 33], [50, 51]]
DRAWN = {"max_new_tokens": 8, "stop_ids": [], "batch_size": 4, "temperature": 1.0}
SETTINGS = [
    {"temperature": 0.7},
    {"top_k": 5},
    {"top_p": 0.9},
    {"top_p": 0.1},
    {"temperature": 1.7, "top_k": 40, "top_p": 0.95},
    {"temperature": 0.3, "top_k": 1000, "top_p": 0.5},
]


@pytest.fixture
def logits(rng):
    """Rows from flat to sharp, of float32 logits."""
    scales = np.geomspace(0.1, 10.0, 8)[:, None]
    return (scales * rng.standard_normal((8, 517))).astype(np.float32)


@pytest.mark.parity
@pytest.mark.parametrize("settings", SETTINGS)
def test_the_tokens_kept_are_those_of_transformers(logits, settings):
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers.generation import logits_process as theirs
    expected = torch.tensor(logits)
    if "temperature" in settings:
        expected = theirs.TemperatureLogitsWarper(settings["temperature"])(None, expected)
    if "top_k" in settings:
        expected = theirs.TopKLogitsWarper(settings["top_k"])(None, expected)
    if "top_p" in settings:
        expected = theirs.TopPLogitsWarper(settings["top_p"])(None, expected)
    made = np.asarray(keep_likely(jnp.asarray(logits), **settings))
    np.testing.assert_array_equal(np.isfinite(made), np.isfinite(expected.numpy()))
    np.testing.assert_allclose(made, expected.numpy(), rtol=1e-6)


def probabilities(logits, *, temperature=1.0, top_k=None, top_p=None):
    """Of one row in float64, from the definitions, by sorting."""
    z = np.asarray(logits, np.float64) / temperature
    order = np.argsort(-z)
    if top_k is not None:
        z[order[top_k:]] = -np.inf
    shares = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    if top_p is not None:
        above = np.cumsum(shares[order]) - shares[order]
        shares[order[above >= top_p]] = 0.0
    return shares / shares.sum()


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"temperature": 0.8}, 12),
        ({"temperature": 1.0, "top_k": 5}, 5),
        ({"temperature": 1.5, "top_k": 9, "top_p": 0.8}, 7),
    ],
)
def test_drawn_tokens_have_the_frequencies_of_their_probabilities(rng, settings, kept):
    row = rng.standard_normal(12).astype(np.float32)
    expected = probabilities(row, **settings)
    assert np.count_nonzero(expected) == kept
    draws = 20000
    tokens = jax.jit(lambda z, keys: sample(z, keys, **settings))(
        jnp.broadcast_to(jnp.asarray(row)[None], (draws, 12)),
        jax.random.split(jax.random.key(5), draws),
    )
    seen = np.bincount(tokens, minlength=12)
    assert (seen[expected == 0] == 0).all()
    wanted = draws * expected[expected > 0]
    statistic = ((seen[expected > 0] - wanted) ** 2 / wanted).sum()
    assert statistic < chi2.ppf(0.999, kept - 1)


def test_ties_with_the_last_token_kept_are_kept():
    row = jnp.asarray([[1.0, 3.0, 1.0, 0.0, 1.0]])
    kept = [True, True, True, False, True]
    assert np.isfinite(keep_likely(row, top_k=2)).tolist() == [kept]
    assert np.isfinite(keep_likely(row, top_p=0.8)).tolist() == [kept]


def test_all_floats_are_ordered_when_they_are_cut():
    row = np.array([-math.inf, -3e38, -1.0, -1e-37, 0.0, 1e-37, 1.0, 3e38], np.float32)
    shuffled = np.random.default_rng(1).permutation(row)
    for k in range(1, 9):
        made = np.asarray(keep_likely(jnp.asarray(shuffled)[None], top_k=k))[0]
        np.testing.assert_array_equal(made, np.where(shuffled >= row[-k], shuffled, -math.inf))


def test_the_most_likely_token_is_that_of_numpy_and_the_first_of_equals(logits):
    logits[0, [3, 9, 200]] = 50.0
    made = most_likely(jnp.asarray(logits))
    assert made.tolist() == np.argmax(logits, axis=1).tolist()
    assert made[0] == 3


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_logits_without_a_largest_one_give_a_token_of_the_vocabulary(bad):
    row, keys = jnp.full((1, 4), bad), jax.random.split(jax.random.key(0), 1)
    assert 0 <= int(most_likely(row)[0]) < 4
    assert 0 <= int(sample(row, keys, temperature=1.0, top_k=2, top_p=0.5)[0]) < 4


def test_one_token_is_left_to_draw_for_top_k_1_and_tiny_top_p(logits):
    keys = jax.random.split(jax.random.key(2), len(logits))
    expected = np.argmax(logits, axis=1).tolist()
    z = jnp.asarray(logits)
    assert sample(z, keys, temperature=2.0, top_k=1).tolist() == expected
    assert sample(z, keys, temperature=2.0, top_p=1e-4).tolist() == expected


def test_a_rows_token_depends_on_its_own_key_only(logits):
    keys = jax.random.split(jax.random.key(3), len(logits))
    z, order = jnp.asarray(logits), np.array([4, 1, 7])
    every = sample(z, keys, temperature=1.0)
    some = sample(z[order], keys[order], temperature=1.0)
    assert some.tolist() == every[order].tolist()
    others = sample(z, jax.random.split(jax.random.key(4), len(logits)), temperature=1.0)
    assert others.tolist() != every.tolist()


def test_a_seed_gives_a_prompt_its_text_whatever_surrounds_it(tiny):
    made = models.generate(*tiny, PROMPTS, **DRAWN)
    assert made == models.generate(*tiny, PROMPTS, **(DRAWN | {"batch_size": 2}))
    turned = models.generate(*tiny, PROMPTS[::-1], **DRAWN)
    assert made == turned[::-1]
    assert made[1:3] == models.generate(*tiny, PROMPTS[1:3], **DRAWN)
    assert made != models.generate(*tiny, PROMPTS, **DRAWN, seed=1)


def test_a_prompt_given_again_gets_another_draw(tiny):
    made = models.generate(*tiny, [[7]] * 4, **DRAWN)
    assert len({tuple(answer) for answer in made}) == 4


def test_drawing_from_the_one_most_likely_token_is_greedy(tiny):
    greedy = models.generate(*tiny, PROMPTS, **(DRAWN | {"temperature": 0.0}))
    assert models.generate(*tiny, PROMPTS, **DRAWN) != greedy
    assert models.generate(*tiny, PROMPTS, **DRAWN, top_k=1) == greedy
    assert models.generate(*tiny, PROMPTS, **DRAWN, top_p=1e-6) == greedy


def test_temperature_0_asks_for_no_draw_and_top_p_1_for_no_cut():
    assert check_sampling(temperature=0, top_k=3, top_p=0.5) is None
    expected = {"temperature": 1.0, "top_k": 3, "top_p": None}
    assert check_sampling(temperature=1, top_k=np.int64(3), top_p=1) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": math.inf}, "temperature must be a finite number of at least 0 .* got inf"),
        ({"temperature": math.nan}, "temperature must be a finite number of at least 0 .* got nan"),
        ({"temperature": "hot"}, "temperature must be a finite number of at least 0 .* got hot"),
        ({"top_k": 0}, "top_k must be a whole number of at least 1, or None .* got 0"),
        ({"top_k": 2.5}, "top_k must be a whole number of at least 1, or None .* got 2.5"),
        ({"top_k": True}, "top_k must be a whole number of at least 1, or None .* got True"),
        ({"top_p": 0.0}, "top_p must be larger than 0 and at most 1, or None .* got 0.0"),
        ({"top_p": 1.5}, "top_p must be larger than 0 and at most 1, or None .* got 1.5"),
        ({"seed": 1 << 32}, r"seed must be a whole number from 0 to 2\^32 - 1, got 4294967296"),
        ({"seed": 0.5}, r"seed must be a whole number from 0 to 2\^32 - 1, got 0.5"),
    ],
)
def test_a_setting_outside_its_range_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        check_sampling(**({"temperature": 1.0} | settings))
