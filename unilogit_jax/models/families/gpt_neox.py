# SPDX-License-Identifier: Apache-2.0
"""GPT-NeoX and Pythia: attention beside the MLP; queries, keys, values interleaved by head."""

from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.models.families._names import fused
from unilogit_jax.models.hf_config import activation, read_rope, sizes
from unilogit_jax.models.hf_values import HfConfig, flag, number
from unilogit_jax.models.weight_map import Family

LAYER = "gpt_neox.layers.{layer}"


def read_config(hf: HfConfig) -> DecoderConfig:
    """The decoder of a GPT-NeoX config.json, which has names of its own for rotary positions."""
    bias = flag(hf, "attention_bias", default=True)
    return DecoderConfig(
        **sizes(hf),
        activation=activation(hf, "hidden_act", default="gelu"),
        block="parallel" if flag(hf, "use_parallel_residual", default=True) else "pre",
        norm="layer",
        norm_eps=number(hf, "layer_norm_eps", default=1e-5),
        gated=False,
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=True,
        rope=read_rope(
            hf,
            theta=number(hf, "rotary_emb_base", default=10000.0),
            fraction=number(hf, "rotary_pct", default=0.25),
        ),
        tie_embeddings=flag(hf, "tie_word_embeddings"),
        family="gpt_neox",
    )


FAMILY = Family(
    read_config=read_config,
    names={
        "embed": "gpt_neox.embed_in",
        "norm": "gpt_neox.final_layer_norm",
        "lm_head": "embed_out",
        "layers.attn_norm": f"{LAYER}.input_layernorm",
        "layers.mlp_norm": f"{LAYER}.post_attention_layernorm",
        **fused(
            f"{LAYER}.attention.query_key_value",
            "layers.attn",
            "q_proj",
            "k_proj",
            "v_proj",
            interleaved=True,
        ),
        "layers.attn.o_proj": f"{LAYER}.attention.dense",
        "layers.mlp.up_proj": f"{LAYER}.mlp.dense_h_to_4h",
        "layers.mlp.down_proj": f"{LAYER}.mlp.dense_4h_to_h",
    },
    ignored=(".attention.bias", ".attention.masked_bias", ".attention.rotary_emb.inv_freq"),
)
