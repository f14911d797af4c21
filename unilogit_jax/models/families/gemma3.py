# SPDX-License-Identifier: Apache-2.0
"""Gemma 3, its text part: norms on queries and keys, five local layers to a full one."""

import dataclasses
import json
from collections.abc import Mapping

from unilogit_jax.errors import WeightsError
from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.models.families._names import QK_NORMS
from unilogit_jax.models.families.gemma2 import SANDWICH, sandwich_fields
from unilogit_jax.models.hf_config import HfConfig, integer, local_layers, read_rope
from unilogit_jax.models.weight_map import Family


def read_config(hf: HfConfig) -> DecoderConfig:
    """The decoder of a Gemma 3 text config.json; local layers have a rotary base of their own."""
    layers = integer(hf, "num_hidden_layers")
    pattern = integer(hf, "sliding_window_pattern", default=6)
    rule = tuple((i + 1) % pattern != 0 for i in range(layers))
    local = {"rope_theta": hf.get("rope_local_base_freq", 10000.0)}
    nested = (hf.get("rope_parameters") or {}).get("sliding_attention")
    return DecoderConfig(
        **sandwich_fields(hf, local_layers(hf, layers, rule)),
        qk_norm="head",
        rope=read_rope(hf, layer_type="full_attention", theta=1e6),
        local_rope=read_rope({**hf, "rope_scaling": None, "rope_parameters": nested or local}),
        family="gemma3_text",
    )


def read_nested_config(hf: HfConfig) -> DecoderConfig:
    """The text part of a file that describes images too; it is written back as text alone."""
    text = hf.get("text_config")
    if not isinstance(text, Mapping):
        raise WeightsError("model_type 'gemma3' without a text_config is not supported.")
    text = {"vocab_size": 262208, **text, "model_type": "gemma3_text"}
    text["architectures"] = ["Gemma3ForCausalLM"]
    defaults = {
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "max_position_embeddings": 131072,
    }
    return dataclasses.replace(
        read_config({**defaults, **text}), hf_config=json.dumps(text, indent=2)
    )


FAMILY = Family(
    read_config=read_config,
    names=SANDWICH | QK_NORMS,
    aliases=(
        (("model.", "language_model.model."), ("lm_head.", "language_model.lm_head.")),
        (("model.", "model.language_model."),),
    ),
    foreign=(
        "vision_tower.",
        "multi_modal_projector.",
        "model.vision_tower.",
        "model.multi_modal_projector.",
    ),
)
NESTED = dataclasses.replace(FAMILY, read_config=read_nested_config)
