# SPDX-License-Identifier: Apache-2.0
"""Gemma 2: norms on both sides, capped scores and logits, every other layer local."""

from typing import Any

from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.models.families._names import ATTENTION, ENDS, LAYER, MLP
from unilogit_jax.models.families.gemma import common_fields
from unilogit_jax.models.hf_config import activation, local_layers, read_rope
from unilogit_jax.models.hf_values import HfConfig, integer, layer_count, number, positive
from unilogit_jax.models.weight_map import Family, Fused

DEFAULTS = {
    "num_key_value_heads": 4,
    "max_position_embeddings": 8192,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
}

SANDWICH: dict[str, str | Fused] = {
    **ENDS,
    **ATTENTION,
    **MLP,
    "layers.attn_norm": f"{LAYER}.input_layernorm",
    "layers.attn_post_norm": f"{LAYER}.post_attention_layernorm",
    "layers.mlp_norm": f"{LAYER}.pre_feedforward_layernorm",
    "layers.mlp_post_norm": f"{LAYER}.post_feedforward_layernorm",
}


def read_config(hf: HfConfig) -> DecoderConfig:
    """The decoder of a Gemma 2 config.json."""
    hf = {**DEFAULTS, **hf}
    layers = layer_count(hf, "num_hidden_layers")
    rule = tuple(i % 2 == 0 for i in range(layers))
    return DecoderConfig(
        **sandwich_fields(hf, local_layers(hf, layers, rule)),
        rope=read_rope(hf),
        family="gemma2",
    )


def sandwich_fields(hf: HfConfig, local: tuple[bool, ...]) -> dict[str, Any]:
    """What Gemma 2 and 3 share."""
    return {
        **common_fields(hf),
        "activation": activation(hf, "hidden_activation", default="gelu_pytorch_tanh"),
        "block": "sandwich",
        "attention_scale": positive(hf, "query_pre_attn_scalar", default=256.0) ** -0.5,
        "attention_softcap": _cap(hf, "attn_logit_softcapping"),
        "final_softcap": _cap(hf, "final_logit_softcapping"),
        "window": integer(hf, "sliding_window", default=4096),
        "local_layers": local,
    }


def _cap(hf: HfConfig, key: str) -> float | None:
    return None if hf.get(key) is None else number(hf, key)


FAMILY = Family(read_config=read_config, names=SANDWICH)
