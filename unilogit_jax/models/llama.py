# SPDX-License-Identifier: Apache-2.0
"""The Llama family (Llama 1 to 3.3): its config.json in both dialects, and its tensor names."""

from collections.abc import Mapping
from typing import Any

from unilogit_jax.errors import WeightsError
from unilogit_jax.models.config import ROPE_KINDS, DecoderConfig, Rope
from unilogit_jax.models.weight_map import Family, Weight


def read_config(hf: Mapping[str, Any]) -> DecoderConfig:
    """The decoder of a Llama config.json; a missing key means what it means to LlamaConfig.

    Args:
      hf: the parsed config.json, in the dialect of transformers 4.x or 5.x.

    Returns:
      The configuration.

    Raises:
      WeightsError: a feature that this family's decoder does not have.

    """
    _refuse(hf, "attention_bias", wanted=False)
    _refuse(hf, "mlp_bias", wanted=False)
    _refuse(hf, "hidden_act", wanted="silu")
    width, heads = _integer(hf, "hidden_size"), _integer(hf, "num_attention_heads")
    return DecoderConfig(
        vocab_size=_integer(hf, "vocab_size"),
        width=width,
        layers=_integer(hf, "num_hidden_layers"),
        heads=heads,
        kv_heads=_integer(hf, "num_key_value_heads", default=heads),
        head_dim=_integer(hf, "head_dim", default=width // max(1, heads)),
        mlp_width=_integer(hf, "intermediate_size"),
        rope=_read_rope(hf),
        norm_eps=float(hf.get("rms_norm_eps", 1e-6)),
        tie_embeddings=bool(hf.get("tie_word_embeddings", False)),
        max_length=_integer(hf, "max_position_embeddings", default=2048),
        init_scale=float(hf.get("initializer_range", 0.02)),
        family="llama",
    )


def write_config(config: DecoderConfig) -> dict[str, Any]:
    """The config.json of a decoder, in the dialect that transformers 4.x and 5.x both read."""
    rope, scaling = config.rope, None
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
        "attention_bias": False,
        "mlp_bias": False,
        "initializer_range": config.init_scale,
    }


def weights(config: DecoderConfig) -> list[Weight]:
    """The table of all parameters and their tensors."""
    c, norm = config, (config.width,)
    query, few = (c.width, c.heads, c.head_dim), (c.width, c.kv_heads, c.head_dim)
    table = [
        _weight("attn_norm", "scale", "input_layernorm", norm),
        _weight("attn.q_proj", "kernel", "self_attn.q_proj", query, inputs=1),
        _weight("attn.k_proj", "kernel", "self_attn.k_proj", few, inputs=1),
        _weight("attn.v_proj", "kernel", "self_attn.v_proj", few, inputs=1),
        _weight("attn.o_proj", "kernel", "self_attn.o_proj", (*query[1:], c.width), inputs=2),
        _weight("mlp_norm", "scale", "post_attention_layernorm", norm),
        _weight("mlp.gate_proj", "kernel", "mlp.gate_proj", (c.width, c.mlp_width), inputs=1),
        _weight("mlp.up_proj", "kernel", "mlp.up_proj", (c.width, c.mlp_width), inputs=1),
        _weight("mlp.down_proj", "kernel", "mlp.down_proj", (c.mlp_width, c.width), inputs=1),
        Weight(path=("norm", "scale"), name="model.norm.weight", shape=norm),
        Weight(
            path=("embed", "kernel"),
            name="model.embed_tokens.weight",
            shape=(c.vocab_size, c.width),
        ),
    ]
    if not c.tie_embeddings:
        head = Weight(
            path=("lm_head", "kernel"), name="lm_head.weight", shape=(c.vocab_size, c.width)
        )
        table.append(head)
    return table


FAMILY = Family(
    read_config=read_config,
    write_config=write_config,
    weights=weights,
    ignored=(".rotary_emb.inv_freq",),
)


def _weight(ours: str, leaf: str, theirs: str, shape: tuple[int, ...], inputs: int = 0) -> Weight:
    return Weight(
        path=("layers", *ours.split("."), leaf),
        name=f"model.layers.{{layer}}.{theirs}.weight",
        shape=shape,
        inputs=inputs,
    )


def _read_rope(hf: Mapping[str, Any]) -> Rope:
    """5.x has `rope_parameters` for everything, 4.x `rope_theta` and perhaps `rope_scaling`."""
    fields = {**(hf.get("rope_scaling") or {}), **(hf.get("rope_parameters") or {})}
    kind = fields.get("rope_type", fields.get("type", "default"))
    if kind not in ROPE_KINDS:
        raise WeightsError(f"rope type '{kind}' is not supported; known: {', '.join(ROPE_KINDS)}.")
    _refuse({**hf, **fields}, "partial_rotary_factor", wanted=1.0)
    theta = float(fields.get("rope_theta", hf.get("rope_theta", 10000.0)))
    if kind == "default":
        return Rope(theta=theta)
    names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    missing = [name for name in names if name not in fields]
    if missing:
        raise WeightsError(f"rope type 'llama3' lacks {', '.join(missing)}.")
    return Rope(
        theta=theta,
        kind=kind,
        factor=float(fields["factor"]),
        low_freq_factor=float(fields["low_freq_factor"]),
        high_freq_factor=float(fields["high_freq_factor"]),
        original_max_length=int(fields["original_max_position_embeddings"]),
    )


def _refuse(hf: Mapping[str, Any], key: str, *, wanted: Any) -> None:
    value = hf.get(key)
    if value is not None and value != wanted:
        raise WeightsError(f"{key} = {value!r} is not supported; known: {wanted!r}.")


def _integer(hf: Mapping[str, Any], key: str, *, default: int | None = None) -> int:
    value = hf.get(key)
    value = default if value is None else value
    if not isinstance(value, int):
        raise WeightsError(f"'{key}' must be a whole number, got {value!r}.")
    return value
