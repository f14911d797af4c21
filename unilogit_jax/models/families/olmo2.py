# SPDX-License-Identifier: Apache-2.0
"""OLMo 2: norms behind attention and MLP only, and one over all queries and one over all keys."""

from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.models.families._names import ATTENTION, ENDS, LAYER, MLP, QK_NORMS
from unilogit_jax.models.hf_config import activation, read_rope, sizes
from unilogit_jax.models.hf_values import HfConfig, flag, number
from unilogit_jax.models.weight_map import Family


def read_config(hf: HfConfig) -> DecoderConfig:
    """The decoder of an OLMo 2 config.json."""
    bias = flag(hf, "attention_bias")
    return DecoderConfig(
        **sizes(hf),
        activation=activation(hf, "hidden_act", default="silu"),
        block="post",
        norm="rms_late",
        norm_eps=number(hf, "rms_norm_eps", default=1e-5),
        qk_norm="full",
        qkv_bias=bias,
        out_bias=bias,
        rope=read_rope(hf),
        tie_embeddings=flag(hf, "tie_word_embeddings"),
        family="olmo2",
    )


FAMILY = Family(
    read_config=read_config,
    names={
        **ENDS,
        **ATTENTION,
        **MLP,
        **QK_NORMS,
        "layers.attn_post_norm": f"{LAYER}.post_attention_layernorm",
        "layers.mlp_post_norm": f"{LAYER}.post_feedforward_layernorm",
    },
)
