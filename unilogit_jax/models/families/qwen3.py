# SPDX-License-Identifier: Apache-2.0
"""Qwen3, dense: a Llama with norms on the queries and keys of every head."""

from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.models.families._names import LLAMA, QK_NORMS
from unilogit_jax.models.families.qwen2 import DEFAULTS, window_fields
from unilogit_jax.models.hf_config import activation, read_rope, sizes
from unilogit_jax.models.hf_values import HfConfig, flag, number
from unilogit_jax.models.weight_map import Family


def read_config(hf: HfConfig) -> DecoderConfig:
    """The decoder of a Qwen3 config.json."""
    hf = {**DEFAULTS, **hf}
    common, bias = sizes(hf, head_dim=128), flag(hf, "attention_bias")
    return DecoderConfig(
        **common,
        activation=activation(hf, "hidden_act", default="silu"),
        norm_eps=number(hf, "rms_norm_eps", default=1e-6),
        qk_norm="head",
        qkv_bias=bias,
        out_bias=bias,
        rope=read_rope(hf),
        **window_fields(hf, common["layers"]),
        tie_embeddings=flag(hf, "tie_word_embeddings"),
        family="qwen3",
    )


FAMILY = Family(read_config=read_config, names=LLAMA | QK_NORMS)
