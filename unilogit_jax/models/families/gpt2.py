# SPDX-License-Identifier: Apache-2.0
"""GPT-2: learned positions, LayerNorm, linear layers stored the other way round."""

from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.models.families._names import fused
from unilogit_jax.models.hf_config import activation
from unilogit_jax.models.hf_values import HfConfig, flag, integer, layer_count, number, refuse
from unilogit_jax.models.weight_map import Family

LAYER = "transformer.h.{layer}"


def read_config(hf: HfConfig) -> DecoderConfig:
    """The decoder of a GPT-2 config.json."""
    refuse(hf, "scale_attn_by_inverse_layer_idx", wanted=False)
    refuse(hf, "scale_attn_weights", wanted=True)
    refuse(hf, "add_cross_attention", wanted=False)
    width, heads = integer(hf, "n_embd", default=768), integer(hf, "n_head", default=12)
    return DecoderConfig(
        vocab_size=integer(hf, "vocab_size", default=50257),
        width=width,
        layers=layer_count(hf, "n_layer", default=12),
        heads=heads,
        kv_heads=heads,
        head_dim=width // max(1, heads),
        mlp_width=integer(hf, "n_inner", default=4 * width),
        activation=activation(hf, "activation_function", default="gelu_new"),
        norm="layer",
        norm_eps=number(hf, "layer_norm_epsilon", default=1e-5),
        gated=False,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        rope=None,
        max_length=integer(hf, "n_positions", default=1024),
        init_scale=number(hf, "initializer_range", default=0.02),
        tie_embeddings=flag(hf, "tie_word_embeddings", default=True),
        family="gpt2",
    )


FAMILY = Family(
    read_config=read_config,
    names={
        "embed": "transformer.wte",
        "positions": "transformer.wpe",
        "norm": "transformer.ln_f",
        "lm_head": "lm_head",
        "layers.attn_norm": f"{LAYER}.ln_1",
        "layers.mlp_norm": f"{LAYER}.ln_2",
        **fused(f"{LAYER}.attn.c_attn", "layers.attn", "q_proj", "k_proj", "v_proj"),
        "layers.attn.o_proj": f"{LAYER}.attn.c_proj",
        "layers.mlp.up_proj": f"{LAYER}.mlp.c_fc",
        "layers.mlp.down_proj": f"{LAYER}.mlp.c_proj",
    },
    inputs_first=True,
    aliases=((("lm_head.", "lm_head."), ("transformer.", "")),),
    ignored=(".attn.bias", ".attn.masked_bias"),
)
