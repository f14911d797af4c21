# SPDX-License-Identifier: Apache-2.0
"""Gemma 3, its text part: norms on queries and keys, five local layers to a full one."""

import dataclasses
import json
from collections.abc import Mapping

from unilogit_jax.errors import WeightsError
from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.models.families._names import QK_NORMS
from unilogit_jax.models.families.gemma2 import SANDWICH, sandwich_fields
from unilogit_jax.models.hf_config import local_layers, read_rope
from unilogit_jax.models.hf_values import HfConfig, integer, layer_count, section
from unilogit_jax.models.weight_map import Family

DEFAULTS = {
    "vocab_size": 262208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131072,
}
"""Files of models that see images leave out even the sizes that are these."""

OUTER = ("dtype", "torch_dtype", "bos_token_id", "eos_token_id", "pad_token_id")
"""Keys that such files have beside their text_config and that hold for it too."""


def read_config(hf: HfConfig) -> DecoderConfig:
    """The decoder of a Gemma 3 text config.json; local layers have a rotary base of their own."""
    hf = {**DEFAULTS, **hf}
    layers = layer_count(hf, "num_hidden_layers")
    pattern = integer(hf, "sliding_window_pattern", default=6, least=1)
    rule = tuple((i + 1) % pattern != 0 for i in range(layers))
    nested = section(section(hf, "rope_parameters"), "sliding_attention")
    nested = {"rope_theta": hf.get("rope_local_base_freq", 10000.0), **nested}
    return DecoderConfig(
        **sandwich_fields(hf, local_layers(hf, layers, rule)),
        qk_norm="head",
        rope=read_rope(hf, layer_type="full_attention", theta=1e6),
        local_rope=read_rope({**hf, "rope_scaling": None, "rope_parameters": nested}),
        family="gemma3_text",
    )


def read_nested_config(hf: HfConfig) -> DecoderConfig:
    """The text part of a file that describes images too; it is written back as text alone."""
    text = hf.get("text_config")
    if not isinstance(text, Mapping):
        raise WeightsError("model_type 'gemma3' without a text_config is not supported.")
    outer = {key: hf[key] for key in OUTER if key in hf}
    kind = {"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"]}
    text = {**outer, **text, **kind}
    return dataclasses.replace(read_config(text), hf_config=json.dumps(text, indent=2))


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
