# SPDX-License-Identifier: Apache-2.0
"""Phi-1, Phi-1.5 and Phi-2: attention beside the MLP, biases everywhere, also on the head."""

from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.models.families._names import ATTENTION, ENDS, LAYER
from unilogit_jax.models.hf_config import activation, read_rope, sizes
from unilogit_jax.models.hf_values import HfConfig, flag, number, refuse
from unilogit_jax.models.weight_map import Family


def read_config(hf: HfConfig) -> DecoderConfig:
    """The decoder of a Phi config.json."""
    refuse(hf, "qk_layernorm", wanted=False)
    refuse(hf, "tie_word_embeddings", wanted=False)
    return DecoderConfig(
        **sizes(hf),
        activation=activation(hf, "hidden_act", default="gelu_new"),
        block="parallel_shared",
        norm="layer",
        norm_eps=number(hf, "layer_norm_eps", default=1e-5),
        gated=False,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        head_bias=True,
        rope=read_rope(hf, fraction=0.5),
        tie_embeddings=flag(hf, "tie_word_embeddings"),
        family="phi",
    )


FAMILY = Family(
    read_config=read_config,
    names={
        **ENDS,
        **ATTENTION,
        "norm": "model.final_layernorm",
        "layers.attn_norm": f"{LAYER}.input_layernorm",
        "layers.attn.o_proj": f"{LAYER}.self_attn.dense",
        "layers.mlp.up_proj": f"{LAYER}.mlp.fc1",
        "layers.mlp.down_proj": f"{LAYER}.mlp.fc2",
    },
    ignored=(".rotary_emb.inv_freq",),
)
