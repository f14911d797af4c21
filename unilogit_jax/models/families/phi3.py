# SPDX-License-Identifier: Apache-2.0
"""Phi-3, Phi-3.5-mini and Phi-4-mini: fused projections, rotary positions for long texts."""

from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.models.families._names import ENDS, LAYER, LLAMA, fused
from unilogit_jax.models.hf_config import activation, read_rope, sizes
from unilogit_jax.models.hf_values import HfConfig, flag, integer, number
from unilogit_jax.models.weight_map import Family

DEFAULTS = {"max_position_embeddings": 4096, "original_max_position_embeddings": 4096}


def read_config(hf: HfConfig) -> DecoderConfig:
    """The decoder of a Phi-3 config.json; early files call longrope "su" or "yarn"."""
    hf = {**DEFAULTS, **hf}
    common = sizes(hf)
    window = integer(hf, "sliding_window", default=0)
    return DecoderConfig(
        **common,
        activation=activation(hf, "hidden_act", default="silu"),
        norm_eps=number(hf, "rms_norm_eps", default=1e-5),
        rope=read_rope(hf, renamed={"yarn": "longrope"}),
        window=window or None,
        local_layers=(True,) * common["layers"] if window else (),
        tie_embeddings=flag(hf, "tie_word_embeddings"),
        family="phi3",
    )


FAMILY = Family(
    read_config=read_config,
    names={
        **ENDS,
        **LLAMA,
        **fused(f"{LAYER}.self_attn.qkv_proj", "layers.attn", "q_proj", "k_proj", "v_proj"),
        **fused(f"{LAYER}.mlp.gate_up_proj", "layers.mlp", "gate_proj", "up_proj"),
    },
)
