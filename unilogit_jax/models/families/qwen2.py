# SPDX-License-Identifier: Apache-2.0
"""Qwen2 and Qwen2.5: a Llama with biases on queries, keys and values."""

from typing import Any

from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.models.families._names import LLAMA
from unilogit_jax.models.hf_config import activation, local_layers, read_rope, sizes
from unilogit_jax.models.hf_values import HfConfig, flag, integer, number
from unilogit_jax.models.weight_map import Family

DEFAULTS = {
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "sliding_window": 4096,
    "max_window_layers": 28,
}


def read_config(hf: HfConfig) -> DecoderConfig:
    """The decoder of a Qwen2 config.json."""
    hf = {**DEFAULTS, **hf}
    common = sizes(hf)
    return DecoderConfig(
        **common,
        activation=activation(hf, "hidden_act", default="silu"),
        norm_eps=number(hf, "rms_norm_eps", default=1e-6),
        qkv_bias=True,
        rope=read_rope(hf),
        **window_fields(hf, common["layers"]),
        tie_embeddings=flag(hf, "tie_word_embeddings"),
        family="qwen2",
    )


def window_fields(hf: HfConfig, layers: int) -> dict[str, Any]:
    """Only with `use_sliding_window`, and then from layer `max_window_layers` on.

    The window's size and the layer stand in every file, also where neither counts.
    """
    window = integer(hf, "sliding_window", default=0)
    first = integer(hf, "max_window_layers", default=28)
    used = flag(hf, "use_sliding_window") and window > 0
    rule = tuple(used and i >= first for i in range(layers))
    local = local_layers(hf, layers, rule)
    return {"window": window, "local_layers": local} if used and any(local) else {}


FAMILY = Family(read_config=read_config, names=LLAMA)
