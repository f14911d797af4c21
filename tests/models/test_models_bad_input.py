# SPDX-License-Identifier: Apache-2.0
"""Whatever stands in a config.json: it is a decoder, or is refused as a WeightsError, at once."""

import copy
import json

import pytest
from bad_input import few
from hypothesis import given
from hypothesis import strategies as st

from unilogit_jax.errors import WeightsError
from unilogit_jax.models.families import FAMILIES
from unilogit_jax.models.reading import read_decoder_config
from unilogit_jax.models.rope import rope_frequencies

BASE = {
    **{"vocab_size": 64, "hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8},
    **{"max_position_embeddings": 64, "hidden_act": "silu", "use_sliding_window": True},
    **{"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 64, "num_heads": 4, "num_layers": 2},
}
ROPE = {
    **{"factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "mscale": 1.0},
    **{"original_max_position_embeddings": 16, "beta_fast": 32, "beta_slow": 1},
    **{"short_factor": [1.0] * 4, "long_factor": [1.0] * 4, "mscale_all_dim": 1.0},
}
KEYS = [
    *BASE,
    *("model_type", "text_config", "quantization_config", "rope_scaling", "rope_parameters"),
    *("attention_types", "sliding_window_pattern", "query_pre_attn_scalar", "layer_types"),
    *("partial_rotary_factor", "rotary_pct", "rope_local_base_freq", "activation_function"),
    *("initializer_range", "rms_norm_eps", "rope_theta", "attn_logit_softcapping", "window_size"),
    *("n_inner", "hidden_activation"),
]  # fmt: skip
ODD = [
    *(None, True, 0, -1, 1, 10**9, 2**63, 10**400, 0.5, -0.5, 1e308, float("nan"), float("inf")),
    *("", "x", [], [1], [None], {}, {"a": 1}, [[["global"], 10**9]], [["global", "x"]]),
    *([[1, 2, 3]], {"sliding_attention": 5}, {"rope_type": []}),
    *({"full_attention": {"rope_type": "yarn"}},),
]  # fmt: skip
odd = st.sampled_from(ODD)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("model")


def told(folder, config) -> str:
    """What is wrong with a config.json; empty if nothing is."""
    (folder / "config.json").write_text(json.dumps(config))
    try:
        decoder = read_decoder_config(folder)
    except WeightsError as error:
        return str(error)
    for rope in filter(None, (decoder.rope, decoder.local_rope)):
        rope_frequencies(rope, decoder.head_dim)
    assert decoder.layers <= 10_000
    return ""


def make(family, **changes):
    own = {"hidden_act": "gelu_pytorch_tanh"} if family == "gemma" else {}
    config = {**BASE, **own, **changes}
    outer = {"model_type": family}
    return outer | ({"text_config": config} if family == "gemma3" else config)


@pytest.mark.parametrize("family", FAMILIES)
def test_any_key_of_any_family_may_hold_anything(folder, family):
    assert told(folder, make(family)) == ""
    for number, key in enumerate(KEYS):
        for value in ODD[number % 3 :: 3]:
            told(folder, make(family, **{key: value}))


@few(150)
@given(value=st.recursive(odd, lambda inner: st.dictionaries(st.sampled_from(KEYS), inner)))
def test_any_json(folder, value):
    assert told(folder, value)


@few(150)
@given(
    family=st.sampled_from(["llama", "phi3", "gemma3_text"]),
    kind=st.sampled_from(["linear", "dynamic", "yarn", "llama3", "longrope"]),
    key=st.sampled_from([*ROPE, "attention_factor", "rope_theta", "truncate"]),
    value=odd | st.sampled_from([1e-30, 1e30, [0.0] * 4, [-1.0] * 4, [None] * 4]),
)
def test_any_rotary_positions(folder, family, kind, key, value):
    rope = copy.deepcopy(ROPE) | {"rope_type": kind, key: value}
    told(folder, make(family, rope_scaling=rope))


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("gpt_neo", {"attention_types": [[["global"], 10**9]]}, "attention_types must name"),
        ("gpt_neo", {"attention_types": 5}, "attention_types must hold pairs"),
        ("llama", {"num_hidden_layers": 10**9}, "'num_hidden_layers' must be at most 10000"),
        ("llama", {"vocab_size": 2**63}, "'vocab_size' must be at most"),
        ("llama", {"rms_norm_eps": float("nan")}, "'rms_norm_eps' must be a finite number"),
        ("llama", {"rope_scaling": True}, "'rope_scaling' must be an object"),
        ("llama", {"hidden_act": []}, "hidden_act = [] is not supported"),
        ("llama", {"head_dim": 10**9}, "heads have at most 65536 entries"),
        ("gemma2", {"query_pre_attn_scalar": 0}, "must be larger than 0"),
        ("gemma2", {"layer_types": 5}, "layer_types must be a list"),
        ("gemma3_text", {"sliding_window_pattern": 0}, "must be at least 1"),
        ("phi", {"partial_rotary_factor": 3.0}, "rotary positions turn 24 of 8 entries"),
    ],
)
def test_what_is_wrong_is_said(folder, family, changes, words):
    assert words in told(folder, make(family, **changes))
