# SPDX-License-Identifier: Apache-2.0
"""Gemma 1: norms times 1 + w, a scaled embedding, a head tied to it."""

from typing import Any

from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.models.families._names import LLAMA
from unilogit_jax.models.hf_config import read_rope, sizes
from unilogit_jax.models.hf_values import HfConfig, flag, number, refuse
from unilogit_jax.models.weight_map import Family


def read_config(hf: HfConfig) -> DecoderConfig:
    """The decoder of a Gemma config.json.

    Its activation is the tanh form of gelu, whatever old files call it.
    """
    hf = {"num_key_value_heads": 16, "max_position_embeddings": 8192, **hf}
    if hf.get("hidden_act") != "gelu":
        refuse(hf, "hidden_act", wanted="gelu_pytorch_tanh")
    return DecoderConfig(
        **common_fields(hf),
        activation="gelu_tanh",
        rope=read_rope(hf),
        family="gemma",
    )


def common_fields(hf: HfConfig) -> dict[str, Any]:
    """What the three generations share."""
    refuse(hf, "use_bidirectional_attention", wanted=False)
    common, bias = sizes(hf, head_dim=256), flag(hf, "attention_bias")
    return {
        **common,
        "norm": "rms_one",
        "norm_eps": number(hf, "rms_norm_eps", default=1e-6),
        "qkv_bias": bias,
        "out_bias": bias,
        "embedding_scale": max(0, common["width"]) ** 0.5,
        "tie_embeddings": flag(hf, "tie_word_embeddings", default=True),
    }


FAMILY = Family(read_config=read_config, names=LLAMA)
