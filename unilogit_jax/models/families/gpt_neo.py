# SPDX-License-Identifier: Apache-2.0
"""GPT-Neo: learned positions, every other layer local, attention scores that are not scaled."""

from unilogit_jax.errors import WeightsError
from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.models.hf_config import activation
from unilogit_jax.models.hf_values import HfConfig, flag, integer, layer_count, number
from unilogit_jax.models.weight_map import Family

LAYER = "transformer.h.{layer}"


def read_config(hf: HfConfig) -> DecoderConfig:
    """The decoder of a GPT-Neo config.json."""
    width, heads = integer(hf, "hidden_size", default=2048), integer(hf, "num_heads", default=16)
    layers = layer_count(hf, "num_layers", default=24)
    return DecoderConfig(
        vocab_size=integer(hf, "vocab_size", default=50257),
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_dim=width // max(1, heads),
        mlp_width=integer(hf, "intermediate_size", default=4 * width),
        activation=activation(hf, "activation_function", default="gelu_new"),
        norm="layer",
        norm_eps=number(hf, "layer_norm_epsilon", default=1e-5),
        gated=False,
        out_bias=True,
        mlp_bias=True,
        rope=None,
        attention_scale=1.0,
        window=integer(hf, "window_size", default=256),
        local_layers=_local_layers(hf, layers),
        max_length=integer(hf, "max_position_embeddings", default=2048),
        init_scale=number(hf, "initializer_range", default=0.02),
        tie_embeddings=flag(hf, "tie_word_embeddings", default=True),
        family="gpt_neo",
    )


def _local_layers(hf: HfConfig, layers: int) -> tuple[bool, ...]:
    """`attention_types` holds pairs: a list of kinds, and how often it is repeated."""
    pairs = hf.get("attention_types") or [[["global", "local"], layers // 2]]
    try:
        # No more than is needed to see that there are too many.
        kinds = [
            kind for pattern, times in pairs for kind in list(pattern) * min(times, layers + 1)
        ]
        unknown = sorted(set(kinds) - {"global", "local"})
    except (TypeError, ValueError):
        raise WeightsError(
            f"attention_types must hold pairs of a list and a number, got {pairs!r:.60}."
        ) from None
    if unknown or len(kinds) != layers:
        raise WeightsError(
            f"attention_types must name global or local for each of {layers} layers, "
            f"got {unknown[0] if unknown else len(kinds)!r:.60}."
        )
    return tuple(kind == "local" for kind in kinds)


FAMILY = Family(
    read_config=read_config,
    names={
        "embed": "transformer.wte",
        "positions": "transformer.wpe",
        "norm": "transformer.ln_f",
        "lm_head": "lm_head",
        "layers.attn_norm": f"{LAYER}.ln_1",
        "layers.mlp_norm": f"{LAYER}.ln_2",
        "layers.attn.q_proj": f"{LAYER}.attn.attention.q_proj",
        "layers.attn.k_proj": f"{LAYER}.attn.attention.k_proj",
        "layers.attn.v_proj": f"{LAYER}.attn.attention.v_proj",
        "layers.attn.o_proj": f"{LAYER}.attn.attention.out_proj",
        "layers.mlp.up_proj": f"{LAYER}.mlp.c_fc",
        "layers.mlp.down_proj": f"{LAYER}.mlp.c_proj",
    },
    aliases=((("lm_head.", "lm_head."), ("transformer.", "")),),
    ignored=(".attn.attention.bias", ".attn.attention.masked_bias"),
)
