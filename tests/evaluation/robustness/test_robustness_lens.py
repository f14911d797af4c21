# SPDX-License-Identifier: Apache-2.0
"""The logit lens against logits in doubles, layer by layer, on one device and on a mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax import models
from unilogit_jax.data import encode, train_tokenizer
from unilogit_jax.data.examples import Example
from unilogit_jax.evaluation import make_scorer
from unilogit_jax.evaluation.robustness import make_lens
from unilogit_jax.models.layer import Norm
from unilogit_jax.sharding import make_mesh
from unilogit_jax.types import IGNORE

TEXTS = ["Ann lives in Oslo.", "Bo.", "A baker, and no more than that.", "In Rome she is."]
CONFIG = models.DecoderConfig.scratch(
    vocab_size=300, width=16, layers=3, heads=2, max_length=64, tie_embeddings=False
)


@pytest.fixture(scope="module")
def rows():
    tokenizer = train_tokenizer(TEXTS * 9, vocab_size=300)
    return encode(tokenizer, [Example("Who?", text) for text in TEXTS])


def expected(params, rows):
    """Per layer, the mean over rows of the geometric mean probability, from whole logits."""
    head = np.asarray(params["lm_head"]["kernel"], np.float64)
    found = []
    for layer in range(CONFIG.layers):
        cut = models.to_layer(models.Decoder(CONFIG), layer)
        stream = cut.apply({"params": params}, jnp.asarray(rows.tokens)).hidden
        normed = Norm(CONFIG, CONFIG.width).apply({"params": params["norm"]}, stream)
        means = []
        for z, labels in zip(np.asarray(normed, np.float64) @ head.T, rows.labels, strict=True):
            logprobs = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
            at = np.flatnonzero(labels != IGNORE)
            means.append(np.exp(logprobs[at, labels[at]].mean()))
        found.append(np.mean(means))
    return found


@pytest.mark.parametrize("shape", [{"fsdp": 1}, {"fsdp": 4, "tensor": 2}], ids=["one", "eight"])
def test_each_layer_is_read_by_the_norm_and_the_head(rows, shape):
    devices = jax.devices()[: shape["fsdp"] * shape.get("tensor", 1)]
    mesh = make_mesh(**shape, devices=devices)
    model, params = models.init(CONFIG, jax.random.key(0), mesh=mesh)
    # As drawn, all tokens are about equally likely, and a layer's norm hardly counts.
    params["lm_head"]["kernel"] *= 20.0
    params["norm"]["scale"] *= np.linspace(0.2, 3.0, 16)
    # Two packed rows a pass: several passes of one program.
    found = make_lens(model, batch_size=6, mesh=mesh)(params, rows)
    np.testing.assert_allclose(
        found, expected(jax.device_put(params, jax.devices()[0]), rows), rtol=1e-5
    )
    assert np.ptp(found) > 0.01 * found.mean(), "layers differ"
    score = make_scorer(models.apply_fn(model), batch_size=8, mesh=mesh)
    assert found[-1] == pytest.approx(np.exp(-score(params, rows).nll).mean(), rel=1e-5)
