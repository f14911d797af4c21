# SPDX-License-Identifier: Apache-2.0
"""Reads sizes and rotary positions of a config.json in the dialects of transformers 4.x and 5.x."""

import math
from collections.abc import Mapping
from typing import Any

from unilogit_jax.errors import WeightsError
from unilogit_jax.models.hf_values import (
    HfConfig,
    flag,
    integer,
    layer_count,
    number,
    positive,
    section,
)
from unilogit_jax.models.rope import ROPE_KINDS, Rope

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
"""Name in a file -> ours."""


def activation(hf: HfConfig, *keys: str, default: str) -> str:
    """The activation function, under the first of the keys that is there.

    Raises:
      WeightsError: an unknown one.

    """
    name = next((hf[key] for key in keys if hf.get(key) is not None), default)
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise WeightsError(
            f"{keys[0]} = {name!r:.60} is not supported; known: "
            f"{', '.join(map(repr, ACTIVATIONS))}."
        )
    return ACTIVATIONS[name]


def sizes(hf: HfConfig, *, head_dim: int | None = None) -> dict[str, Any]:
    """The fields of a decoder that most families call alike.

    Args:
      hf: the parsed config.json.
      head_dim: the family's default; None: width / heads.

    """
    width, heads = integer(hf, "hidden_size"), integer(hf, "num_attention_heads")
    head_dim = width // max(1, heads) if head_dim is None else head_dim
    return {
        "vocab_size": integer(hf, "vocab_size"),
        "width": width,
        "layers": layer_count(hf, "num_hidden_layers"),
        "heads": heads,
        "kv_heads": integer(hf, "num_key_value_heads", default=heads),
        "head_dim": integer(hf, "head_dim", default=head_dim),
        "mlp_width": integer(hf, "intermediate_size"),
        "max_length": _longest_text(hf),
        "init_scale": number(hf, "initializer_range", default=0.02),
    }


def local_layers(hf: HfConfig, layers: int, rule: tuple[bool, ...]) -> tuple[bool, ...]:
    """Which layers are local: the list `layer_types` of newer files, else the family's rule.

    Raises:
      WeightsError: a kind of layer that is not there.

    """
    kinds = hf.get("layer_types")
    if kinds is None:
        return rule
    known = {"full_attention": False, "sliding_attention": True}
    if not isinstance(kinds, list):
        raise WeightsError(f"layer_types must be a list, got {kinds!r:.60}.")
    unknown = [kind for kind in kinds if not isinstance(kind, str) or kind not in known]
    if unknown or len(kinds) != layers:
        raise WeightsError(
            f"layer_types must name one of {', '.join(known)} for each of {layers} layers, "
            f"got {unknown[0] if unknown else len(kinds)!r:.60}."
        )
    return tuple(known[kind] for kind in kinds)


def read_rope(
    hf: HfConfig,
    *,
    layer_type: str = "",
    theta: float = 10000.0,
    fraction: float = 1.0,
    renamed: Mapping[str, str] | None = None,
) -> Rope:
    """Rotary positions: 5.x keeps all in `rope_parameters`, 4.x has `rope_theta` and its friends.

    Args:
      hf: the parsed config.json.
      layer_type: key of a kind of layer that `rope_parameters` may have an entry for.
      theta: the family's default base.
      fraction: the family's default share of a head that is rotated.
      renamed: kinds that mean another one in this family.

    Raises:
      WeightsError: an unknown kind, or one that lacks a field.

    """
    kind, fields = _rope_fields(hf, layer_type)
    if isinstance(kind, str):
        kind = {"su": "longrope", **(renamed or {})}.get(kind, kind)
    if kind not in ROPE_KINDS:
        raise WeightsError(
            f"rope type '{kind!s:.60}' is not supported; known: {', '.join(ROPE_KINDS)}."
        )
    both = {**hf, **fields}
    common: dict[str, Any] = {
        "kind": kind,
        "theta": number(both, "rope_theta", default=theta),
        "fraction": number(both, "partial_rotary_factor", default=fraction),
    }
    return Rope(**common, **_KIND_FIELDS.get(kind, _no_fields)(fields, hf))


def _rope_fields(hf: HfConfig, layer_type: str) -> tuple[Any, HfConfig]:
    """The kind of rotary positions as the file calls it, and what goes with it."""
    fields = {**section(hf, "rope_scaling"), **section(hf, "rope_parameters")}
    if isinstance(fields.get(layer_type), Mapping):
        fields = dict(fields[layer_type])
    return fields.get("rope_type", fields.get("type", "default")), fields


def _no_fields(fields: HfConfig, hf: HfConfig) -> dict[str, Any]:
    return {}


def _linear(fields: HfConfig, hf: HfConfig) -> dict[str, Any]:
    _need(fields, "linear", "factor")
    return {"factor": number(fields, "factor")}


def _dynamic(fields: HfConfig, hf: HfConfig) -> dict[str, Any]:
    _need(fields, "dynamic", "factor")
    return {"factor": number(fields, "factor"), "original_max_length": _longest_position(hf)}


def _llama3(fields: HfConfig, hf: HfConfig) -> dict[str, Any]:
    names = ("factor", "low_freq_factor", "high_freq_factor")
    _need(fields, "llama3", *names)
    values: dict[str, Any] = {name: number(fields, name) for name in names}
    return {**values, "original_max_length": _original_length(fields, hf)}


def _yarn(fields: HfConfig, hf: HfConfig) -> dict[str, Any]:
    original = _original_length(fields, hf)
    factor = _factor(fields, hf, original)
    mscale, over = (number(fields, key, default=0.0) for key in ("mscale", "mscale_all_dim"))
    if min(mscale, over) < 0:
        raise WeightsError(f"mscale and mscale_all_dim must not be negative: {mscale}, {over}.")
    scale = _mscale(factor, 1.0)
    if mscale and over:
        scale = _mscale(factor, mscale) / _mscale(factor, over)
    return {
        "factor": factor,
        "original_max_length": original,
        "attention_factor": number(fields, "attention_factor", default=scale),
        "beta_fast": number(fields, "beta_fast", default=0.0) or 32.0,
        "beta_slow": number(fields, "beta_slow", default=0.0) or 1.0,
        "truncate": flag(fields, "truncate", default=True),
    }


def _longrope(fields: HfConfig, hf: HfConfig) -> dict[str, Any]:
    original = _original_length(fields, hf)
    factor = _factor(fields, hf, original)
    scale = 1.0
    if factor > 1 and original > 1:
        scale = math.sqrt(1 + math.log(factor) / math.log(original))
    _need(fields, "longrope", "short_factor", "long_factor")
    return {
        "factor": factor,
        "original_max_length": original,
        "attention_factor": number(fields, "attention_factor", default=scale),
        "short_factors": _numbers(fields, "short_factor"),
        "long_factors": _numbers(fields, "long_factor"),
    }


_KIND_FIELDS = {
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
}
_ORIGINAL = "original_max_position_embeddings"


def _mscale(factor: float, weight: float) -> float:
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


def _numbers(fields: HfConfig, key: str) -> tuple[float, ...]:
    """A list of positive numbers."""
    values = fields[key]
    if not isinstance(values, list):
        raise WeightsError(f"'{key}' must be a list of numbers, got {values!r:.60}.")
    return tuple(positive({key: value}, key, default=0.0) for value in values)


def _factor(fields: HfConfig, hf: HfConfig, original: int) -> float:
    return number(fields, "factor", default=_longest_position(hf) / original)


def _original_length(fields: HfConfig, hf: HfConfig) -> int:
    """The length trained at first; where a file has it at the top level, that one counts."""
    top = {_ORIGINAL: hf[_ORIGINAL]} if hf.get(_ORIGINAL) else {}
    length = integer({**fields, **top}, _ORIGINAL, default=_longest_position(hf))
    if length < 1:
        raise WeightsError(f"'{_ORIGINAL}' must be larger than 0, got {length}.")
    return length


def _longest_position(hf: HfConfig) -> int:
    return integer(hf, "max_position_embeddings", default=2048)


def _longest_text(hf: HfConfig) -> int:
    """Longer than max_position_embeddings where a file leaves to its reader what scaling adds."""
    longest = _longest_position(hf)
    kind, fields = _rope_fields(hf, "full_attention")
    if kind not in ("linear", "dynamic", "yarn") or fields.get("factor") is None:
        return longest
    trained = _original_length(fields, hf) if kind == "yarn" else longest
    scaled = int(trained * number(fields, "factor"))
    return integer({"length of texts": max(longest, scaled)}, "length of texts")


def _need(fields: HfConfig, kind: str, *names: str) -> None:
    missing = [name for name in names if fields.get(name) is None]
    if missing:
        raise WeightsError(f"rope type '{kind}' lacks {', '.join(missing)}.")
