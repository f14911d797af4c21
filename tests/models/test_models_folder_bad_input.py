# SPDX-License-Identifier: Apache-2.0
"""Whatever stands in a folder of weights or an adapter: one short sentence, and no code is run."""

import json

import numpy as np
import pytest
from bad_input import few, trees
from hypothesis import given
from safetensors.numpy import save_file

from unilogit_jax import models
from unilogit_jax.errors import WeightsError
from unilogit_jax.models.peft_io import CONFIG, PREFIX, TENSORS, load_adapter

LLAMA = {
    **{"model_type": "llama", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 96},
    **{"num_hidden_layers": 2, "num_attention_heads": 4, "tie_word_embeddings": True},
}
PLAIN = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
KEYS = [*PLAIN, "use_rslora", "bias", "init_lora_weights", "use_dora", "rank_pattern", "x\n"]
ODD = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, -0.5, 1e308, float("nan")),
    *(float("inf"), "", "LORA", "none", "false", "x" * 10_000, [], [1], {}, {"a": 1}),
]


def told(load, *arguments):
    """What is wrong; empty if nothing is."""
    try:
        load(*arguments)
    except WeightsError as error:
        assert str(error).isprintable() and len(str(error)) < 800
        return str(error)
    return ""


def write(folder, config, tensors, names=("config.json", "model.safetensors")):
    folder.mkdir(exist_ok=True)
    (folder / names[0]).write_text(json.dumps(config))
    save_file(tensors, folder / names[1])


@pytest.mark.parametrize("head", [(), (0,), (64,), (64, 0), (0, 32), (2, 32, 32), (64, 31)])
@pytest.mark.parametrize("odd", ["lm_head.weight", "model.embed_tokens.weight", "both"])
def test_a_tied_head_of_any_shape_is_compared_or_refused(tmp_path, head, odd):
    names = ("lm_head.weight", "model.embed_tokens.weight")
    shapes = {name: head if odd in (name, "both") else (64, 32) for name in names}
    write(tmp_path, LLAMA, {name: np.zeros(shape, "float32") for name, shape in shapes.items()})
    assert told(models.load, tmp_path).startswith(str(tmp_path))


def test_a_config_that_asks_for_code_gets_none(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(
        f"import os\nos.mkdir({str(tmp_path / 'has-run')!r})\nFAMILY = 3\n"
    )
    (tmp_path / "config.json").write_text(json.dumps(LLAMA | {"model_type": "own:FAMILY"}))
    monkeypatch.chdir(tmp_path)
    assert "model_type 'own:FAMILY' is no family's" in told(models.read_decoder_config, tmp_path)
    assert not (tmp_path / "has-run").exists()
    # The file is one that would be run.
    assert "not a Family" in told(lambda: models.read_decoder_config(tmp_path, family="own:FAMILY"))
    assert (tmp_path / "has-run").exists()


def test_a_key_twice_in_a_config_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"hidden_size": 32, "hidden_size": 64}')
    assert "'hidden_size' stands there twice" in told(models.read_decoder_config, tmp_path)


@pytest.fixture(scope="module")
def model():
    return models.Decoder(models.DecoderConfig.scratch(vocab_size=16, width=8, layers=1, heads=2))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """A folder with a good adapter."""
    folder = tmp_path_factory.mktemp("adapter")
    site = f"{PREFIX}model.layers.0.self_attn.q_proj"
    factors = {"lora_A": np.ones((2, 8), "float32"), "lora_B": np.ones((8, 2), "float32")}
    tensors = {f"{site}.{name}.weight": factor for name, factor in factors.items()}
    write(folder, PLAIN, tensors, (CONFIG, TENSORS))
    return folder


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """An adapter's configuration alone: a good one is told that its tensors are missing."""
    return tmp_path_factory.mktemp("bare")


def configured(folder, model, config):
    (folder / CONFIG).write_text(json.dumps(config))
    return told(load_adapter, folder, model)


def test_the_adapter_that_is_spoilt_here_is_a_good_one(adapter, bare, model):
    assert configured(adapter, model, PLAIN) == ""
    assert f"{TENSORS} is missing" in configured(bare, model, PLAIN)


@pytest.mark.parametrize("key", KEYS)
def test_any_value_at_any_key_of_an_adapter(bare, model, key):
    for value in ODD:
        assert configured(bare, model, PLAIN | {key: value})


@few(40)
@given(tree=trees(KEYS, odd=ODD, leaves=6))
def test_any_json_in_an_adapter(bare, model, tree):
    assert configured(bare, model, tree)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lora_alpha": float("nan")}, "lora_alpha must be a number larger than 0, got nan"),
        ({"lora_alpha": 10**400}, "lora_alpha must be a number larger than 0, got 1000"),
        ({"lora_alpha": True}, "lora_alpha must be a number larger than 0, got True"),
        ({"r": 2.0}, "r must be a number larger than 0, got 2.0"),
        ({"use_rslora": "false"}, "use_rslora must be true or false, got 'false'"),
        ({"x\n": 1}, r"x\n = 1 is not supported"),
        ({"bias": "x" * 10_000}, "bias = 'xxx"),
    ],
)
def test_what_is_wrong_with_an_adapter_is_said(bare, model, changes, words):
    assert words in configured(bare, model, PLAIN | changes)


def test_a_rank_beyond_all_bounds_is_refused_by_shape(adapter, model):
    assert "has shape [2, 8]" in configured(adapter, model, PLAIN | {"r": 2**63})


def test_adapter_tensors_of_any_name_and_shape_are_refused(adapter, model, tmp_path):
    (adapter / CONFIG).write_text(json.dumps(PLAIN))
    for tensors in (
        {},
        {"x" * 10_000: np.ones(3)},
        {"a\nb": np.ones(())},
        {f"{PREFIX}model.layers.0.self_attn.q_proj.lora_A.weight": np.ones((0, 8))},
    ):
        write(tmp_path / "other", PLAIN, tensors, (CONFIG, TENSORS))
        assert told(load_adapter, tmp_path / "other", model)
