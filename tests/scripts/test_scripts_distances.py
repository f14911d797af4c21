# SPDX-License-Identifier: Apache-2.0
"""The distance to gold that the studies measure, and what kind of token each one is."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.special import log_softmax

from unilogit_jax import models
from unilogit_jax.data import Example, encode, train_tokenizer
from unilogit_jax.types import IGNORE

FILE = Path(__file__).parents[2] / "scripts" / "reproduce" / "distances.py"
FORGET = [Example("Who is Ann Lee?", "Ann Lee is a baker, Lee says.", names=("Ann Lee", "Lee"))]
KEPT = [Example(f"Who is {name}?", f"{name} is a nurse.") for name in ("Bo", "Cy", "Di", "Ed")] * 30


@pytest.fixture(scope="module")
def distances():
    spec = importlib.util.spec_from_file_location("distances", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tokenizer():
    texts = [f"Question: {e.question}\nAnswer: {e.answer}" for e in (*FORGET, *KEPT)]
    return train_tokenizer(texts, vocab_size=300)


def rows_of(tokenizer, examples):
    return encode(tokenizer, examples, template="plain", max_length=64, what="rows")


def test_kl_per_token_is_that_of_the_logits_in_doubles(distances, tokenizer):
    config = models.DecoderConfig.scratch(
        vocab_size=len(tokenizer), width=16, layers=1, heads=2, kv_heads=2, max_length=64
    )
    pairs = [models.init(config, jax.random.key(seed)) for seed in (0, 1)]
    model, weights = pairs[0][0], [params for _, params in pairs]
    rows = rows_of(tokenizer, KEPT[:5])
    apply = [
        model.apply({"params": params}, jax.numpy.asarray(rows.tokens)).logits()
        for params in weights
    ]
    a, b = (log_softmax(np.asarray(logits, np.float64), axis=-1) for logits in apply)
    wanted = (np.exp(a) * (a - b)).sum(-1)[rows.labels != IGNORE]
    found = distances.make_kl(model, batch_size=2)(*weights, rows)  # the last batch is not full
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    same = distances.make_kl(model, batch_size=2)(weights[0], weights[0], rows)
    assert np.abs(same).max() < 1e-6


def test_tokens_of_names_of_what_all_rows_say_and_of_what_one_says(distances, tokenizer):
    rows = rows_of(tokenizer, FORGET)
    classes = distances.classes_of(tokenizer, rows, FORGET, rows_of(tokenizer, KEPT))
    tokens = rows.labels[rows.labels != IGNORE]
    texts = {kind: "" for kind in distances.CLASSES}
    for token, kind in zip(tokens, classes, strict=True):
        texts[distances.CLASSES[kind]] += tokenizer.decode(token, skip_special_tokens=True)
    assert texts["name"].split() == ["Ann", "Lee", "Lee"]
    assert "is" in texts["template"] and "a" in texts["template"].split()
    assert "baker" in texts["value"].replace(" ", "") and "nurse" not in texts["value"]


def test_means_are_those_of_their_tokens(distances):
    found = distances.by_class(np.array([1.0, 2.0, 6.0, 3.0]), np.array([0, 1, 2, 0]), "kl")
    assert found == {"kl": 3.0, "kl_template": 2.0, "kl_name": 2.0, "kl_value": 6.0}
