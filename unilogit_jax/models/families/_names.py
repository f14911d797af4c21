# SPDX-License-Identifier: Apache-2.0
"""Names of tensors that most families after Llama share."""

from unilogit_jax.models.weight_map import Fused

LAYER = "model.layers.{layer}"

ENDS = {"embed": "model.embed_tokens", "norm": "model.norm", "lm_head": "lm_head"}
"""Modules outside the layers."""

NORMS = {
    "layers.attn_norm": f"{LAYER}.input_layernorm",
    "layers.mlp_norm": f"{LAYER}.post_attention_layernorm",
}
"""Norms before attention and MLP."""

QK_NORMS = {
    "layers.attn.q_norm": f"{LAYER}.self_attn.q_norm",
    "layers.attn.k_norm": f"{LAYER}.self_attn.k_norm",
}

ATTENTION = {
    f"layers.attn.{name}": f"{LAYER}.self_attn.{name}"
    for name in ("q_proj", "k_proj", "v_proj", "o_proj")
}

MLP = {
    f"layers.mlp.{name}": f"{LAYER}.mlp.{name}" for name in ("gate_proj", "up_proj", "down_proj")
}

LLAMA: dict[str, str | Fused] = {**ENDS, **NORMS, **ATTENTION, **MLP}
"""All of a Llama."""


def fused(name: str, room: str, *order: str, interleaved: bool = False) -> dict[str, Fused]:
    """Several modules of ours in one tensor.

    Args:
      name: Hugging Face name of the module that holds them.
      room: what our names have in front, such as "layers.attn".
      *order: our modules as they follow one another.
      interleaved: they do so within each head.

    Example:
      >>> list(fused("h.{layer}.qkv", "layers.attn", "q_proj", "k_proj", "v_proj"))
      ['layers.attn.q_proj', 'layers.attn.k_proj', 'layers.attn.v_proj']

    """
    entry = Fused(name=name, order=order, interleaved=interleaved)
    return {f"{room}.{module}": entry for module in order}
