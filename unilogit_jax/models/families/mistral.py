# SPDX-License-Identifier: Apache-2.0
"""Mistral 7B and its finetunes, Zephyr among them: a Llama whose layers may see a window only."""

from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.models.families._names import LLAMA
from unilogit_jax.models.hf_config import activation, read_rope, sizes
from unilogit_jax.models.hf_values import HfConfig, flag, integer, number, refuse
from unilogit_jax.models.weight_map import Family

DEFAULTS = {
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "sliding_window": 4096,
}


def read_config(hf: HfConfig) -> DecoderConfig:
    """The decoder of a Mistral config.json: `sliding_window` null means that there is none."""
    hf = {**DEFAULTS, **hf}
    refuse(hf, "layer_types", wanted=None)
    common, window = sizes(hf), integer(hf, "sliding_window", default=0)
    return DecoderConfig(
        **common,
        activation=activation(hf, "hidden_act", default="silu"),
        norm_eps=number(hf, "rms_norm_eps", default=1e-6),
        rope=read_rope(hf),
        window=window or None,
        local_layers=(True,) * common["layers"] if window else (),
        tie_embeddings=flag(hf, "tie_word_embeddings"),
        family="mistral",
    )


FAMILY = Family(read_config=read_config, names=LLAMA, ignored=(".rotary_emb.inv_freq",))
