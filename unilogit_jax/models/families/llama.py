# SPDX-License-Identifier: Apache-2.0
"""The Llama family: Llama 1 to 3.3, and what is built like it."""

from typing import Any

from unilogit_jax.errors import ConfigError
from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.models.families._names import LLAMA
from unilogit_jax.models.hf_config import activation, read_rope, sizes
from unilogit_jax.models.hf_values import HfConfig, flag, number
from unilogit_jax.models.weight_map import Family


def read_config(hf: HfConfig) -> DecoderConfig:
    """The decoder of a Llama config.json."""
    bias = flag(hf, "attention_bias")
    return DecoderConfig(
        **sizes(hf),
        activation=activation(hf, "hidden_act", default="silu"),
        norm_eps=number(hf, "rms_norm_eps", default=1e-6),
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=flag(hf, "mlp_bias"),
        rope=read_rope(hf),
        tie_embeddings=flag(hf, "tie_word_embeddings"),
        family="llama",
    )


def write_config(config: DecoderConfig) -> dict[str, Any]:
    """The config.json of a decoder, in the dialect that transformers 4.x and 5.x both read."""
    rope = config.rope
    if rope is None or rope.kind not in ("default", "llama3") or rope.fraction != 1.0:
        raise ConfigError("a Llama made from scratch has default or llama3 rotary positions.")
    scaling = None
    if rope.kind == "llama3":
        scaling = {
            "rope_type": "llama3",
            "factor": rope.factor,
            "low_freq_factor": rope.low_freq_factor,
            "high_freq_factor": rope.high_freq_factor,
            "original_max_position_embeddings": rope.original_max_length,
        }
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "intermediate_size": config.mlp_width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_length,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": rope.theta,
        "rope_scaling": scaling,
        "tie_word_embeddings": config.tie_embeddings,
        "attention_bias": config.qkv_bias,
        "mlp_bias": config.mlp_bias,
        "initializer_range": config.init_scale,
    }


FAMILY = Family(
    read_config=read_config,
    write_config=write_config,
    names=LLAMA,
    ignored=(".rotary_emb.inv_freq",),
)
