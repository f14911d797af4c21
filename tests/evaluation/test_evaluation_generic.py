# SPDX-License-Identifier: Apache-2.0
"""Two decoders read as one, measured: scores against float64, on one device and on eight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax import models
from unilogit_jax.data import Panel, Probe, Rows, Task, assemble, train_tokenizer
from unilogit_jax.evaluation import Evaluator, make_scorer
from unilogit_jax.sharding import make_mesh
from unilogit_jax.types import IGNORE, RETAIN

VOCAB, LENGTH = 300, 12
CONFIG = models.DecoderConfig.scratch(vocab_size=VOCAB, width=16, layers=1, heads=2, kv_heads=2)
NAMES = ("logprobs", "hits", "means", "variances")


def pair(alpha, mesh):
    """Decoder and parameters; the reinforced one's last layers differ most."""
    model, base = models.init(CONFIG, jax.random.key(5), mesh=mesh)
    _, other = models.init(CONFIG, jax.random.key(6), mesh=mesh)
    # Freshly drawn heads are nearly flat; this makes the logits uneven.
    base, other = (jax.tree.map(lambda x: x * 3 if x.ndim > 1 else x, p) for p in (base, other))
    return models.GenericDecoder(model, alpha), {"base": base, "reinforced": other}


def scores(alpha, rows, mesh):
    both, params = pair(alpha, mesh)
    return make_scorer(models.apply_fn(both), batch_size=8, mesh=mesh, moments=True)(params, rows)


@pytest.fixture(scope="module")
def rows():
    """Rows of several lengths; half of them continued as the generic logits would."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, VOCAB, (24, LENGTH)).astype(np.int32)
    lengths = rng.integers(6, LENGTH + 1, 24).astype(np.int32)
    labels = np.full((24, LENGTH), IGNORE, np.int32)
    for row, size in enumerate(lengths):
        start = rng.integers(1, size - 1)
        labels[row, start : size - 1] = tokens[row, start + 1 : size]
    likeliest = generic(Rows(tokens, labels, lengths), 2.0).argmax(-1)
    labels[::2] = np.where(labels == IGNORE, IGNORE, likeliest)[::2]
    return Rows(tokens, labels, lengths)


def generic(rows, alpha):
    """Generic logits in float64, of whole forward passes of both models."""
    both, params = pair(alpha, make_mesh(devices=jax.devices()[:1]))
    batch = assemble([(rows, np.arange(len(rows)), {})], np.full(len(rows), RETAIN, np.int32))
    batch = jax.tree.map(jnp.asarray, batch)
    apply = models.apply_fn(both.decoder)
    base, other = (np.asarray(apply(p, batch).logits(), np.float64) for p in params.values())
    return base - alpha * np.maximum(other - base, 0.0)


@pytest.mark.parametrize("devices", [1, 8])
def test_scores_hits_and_moments_are_those_of_both_models_logits(rows, devices):
    mesh = make_mesh(fsdp=4, tensor=2) if devices == 8 else make_mesh(devices=jax.devices()[:1])
    found = scores(2.0, rows, mesh)
    z = generic(rows, 2.0)
    logp = z - z.max(-1, keepdims=True)
    logp -= np.log(np.exp(logp).sum(-1, keepdims=True))
    mean = (np.exp(logp) * logp).sum(-1)
    at = rows.labels != IGNORE
    wanted = {
        "logprobs": np.take_along_axis(logp, np.where(at, rows.labels, 0)[..., None], -1)[..., 0],
        "hits": logp.argmax(-1) == rows.labels,
        "means": mean,
        "variances": (np.exp(logp) * (logp - mean[..., None]) ** 2).sum(-1),
    }
    for name, values in wanted.items():
        for row, value, own in zip(getattr(found, name), values, at, strict=True):
            np.testing.assert_allclose(row, value[own], rtol=2e-5, atol=2e-6, err_msg=name)
    assert 12 <= found.exact.sum() < 24


def test_with_alpha_0_the_scores_are_those_of_the_base(rows):
    mesh = make_mesh()
    both, params = pair(0.0, mesh)
    score = make_scorer(models.apply_fn(both.decoder), batch_size=8, mesh=mesh, moments=True)
    alone, found = score(params["base"], rows), scores(0.0, rows, mesh)
    for name in NAMES:
        for a, b in zip(getattr(found, name), getattr(alone, name), strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)


def test_an_evaluator_takes_it_as_it_takes_a_decoder():
    text = "Ann lives in Oslo and works as a baker. Bo lives in Rome."
    tokenizer = train_tokenizer([text] * 20, vocab_size=VOCAB)
    who = Probe("Who?", "Ann.", "forget", wrong=("Bo.",))
    probes = who, Probe("Where?", "Oslo.", "forget")
    task = Task("t", (), (), probes, panels=(Panel(name="forget"),), suite="tofu")
    mesh = make_mesh(devices=jax.devices()[:1])

    def measured(model, params):
        return Evaluator(model, tokenizer, task, mesh=mesh, max_new_tokens=3)(params).items

    both, params = pair(0.0, mesh)
    base = measured(both.decoder, params["base"])
    assert measured(both, params) == base
    assert measured(pair(2.0, mesh)[0], params) != base
