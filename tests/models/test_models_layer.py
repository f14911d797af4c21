# SPDX-License-Identifier: Apache-2.0
"""Models cut off behind a layer: hidden states of transformers, gradients, adapters, refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity_cases import CASES, TEXTS, make, quiet, rows

from unilogit_jax import models
from unilogit_jax.errors import ConfigError
from unilogit_jax.models import Lora, lora_apply_fn
from unilogit_jax.types import Batch


def given():
    tokens, segments, positions = map(jnp.asarray, rows())
    blank = jnp.zeros(tokens.shape)
    return Batch(
        tokens=tokens,
        labels=tokens,
        segments=segments,
        positions=positions,
        sets=segments,
        weights=blank,
        num_segments=7,
    )


@pytest.mark.parity
@pytest.mark.parametrize("name", ["llama, tied", "gemma2", "gpt2"])
def test_hidden_states_of_a_layer_are_those_of_transformers(name, tmp_path):
    torch = pytest.importorskip("torch")
    with quiet():
        theirs = make(CASES[name], tmp_path)
        model, params = models.load(tmp_path)
        row, start, stop = TEXTS[0]
        tokens = torch.tensor(rows().tokens[row, start:stop])[None]
        with torch.no_grad():
            wanted = theirs(tokens, output_hidden_states=True).hidden_states
    # The last of theirs is behind the final norm.
    for layer in range(model.config.layers - 1):
        output = jax.jit(models.layer_fn(model, layer))(params, given())
        ours = np.asarray(output.hidden)[row, start:stop]
        size = np.abs(wanted[layer + 1].numpy()).max()
        assert np.abs(ours - wanted[layer + 1][0].numpy()).max() <= 1e-5 * size


CONFIG = models.DecoderConfig.scratch(vocab_size=101, width=16, layers=4, heads=2, max_length=64)


def test_every_layer_is_that_of_the_model_cut_off_behind_it():
    # Two periods of two kinds, and a run of one layer.
    kinds = {"local_layers": (True, False) * 2 + (True,), "window": 2, "layers": 5}
    config = dataclasses.replace(CONFIG, **kinds)
    model, params = models.init(config, jax.random.key(0))
    params["norm"]["scale"] *= jnp.linspace(0.5, 2.0, 16)
    whole = jax.jit(models.apply_fn(model.clone(every_layer=True)))(params, given())
    assert len(whole.layers) == config.layers
    norm = models.decoder.Norm(config, 16)
    for layer in (0, 1, 2, 4):
        stream = jax.jit(models.layer_fn(model, layer))(params, given()).hidden
        wanted = norm.apply({"params": params["norm"]}, stream)
        np.testing.assert_allclose(whole.layers[layer], wanted, atol=1e-5)
    np.testing.assert_allclose(whole.layers[-1], whole.hidden, atol=1e-5)


def test_the_last_layer_is_the_whole_model_without_the_final_norm():
    model, params = models.init(CONFIG, jax.random.key(0))
    whole = models.apply_fn(model)(params, given()).hidden
    stream = models.layer_fn(model, 3)(params, given()).hidden
    norm = dataclasses.replace(CONFIG, layers=1)
    scaled = models.decoder.Norm(norm, 16).apply({"params": params["norm"]}, stream)
    np.testing.assert_allclose(scaled, whole, atol=1e-5)


@pytest.mark.parametrize("trained", [None, (1, 2), (2, 4)])
def test_gradients_end_at_the_layer(trained):
    model, params = models.init(CONFIG, jax.random.key(0))
    apply = models.layer_fn(model.clone(trained=trained), 1)
    grads = jax.grad(lambda p: jnp.sum(apply(p, given()).hidden ** 2))(params)
    moved = [
        np.abs(np.asarray(grads["layers"]["mlp"]["down_proj"]["kernel"][i])).max() > 0
        for i in range(4)
    ]
    first, stop = trained or (0, 4)
    assert moved == [first <= i < min(stop, 2) for i in range(4)]
    assert not any(np.asarray(x).any() for x in jax.tree.leaves(grads["norm"]))


def test_adapters_act_up_to_the_layer():
    model, params = models.init(CONFIG, jax.random.key(0))
    lora = Lora(rank=2, alpha=4.0)
    adapters = jax.tree.map(jnp.ones_like, lora.init(model, jax.random.key(1)))
    merged = models.merge_lora(params, adapters, lora)
    ours = lora_apply_fn(models.to_layer(model, 1), lora)(adapters, given(), params).hidden
    np.testing.assert_allclose(ours, models.layer_fn(model, 1)(merged, given()).hidden, atol=1e-5)


def test_a_shorter_model_computes_less():
    batch = [10, 20], 12
    whole = models.update_flops(CONFIG, *batch)
    head = 3 * 2 * 101 * 16 * 12
    assert models.update_flops(CONFIG, *batch, layer=3) == whole - head
    assert models.update_flops(CONFIG, *batch, layer=1) == (whole - head) // 2


@pytest.mark.parametrize("layer", [-1, 4, 7])
def test_a_layer_that_the_model_has_not_is_refused(layer):
    model = models.Decoder(CONFIG)
    with pytest.raises(ConfigError, match=rf"layer {layer}: .*has layers 0 to 3\."):
        models.to_layer(model, layer)
