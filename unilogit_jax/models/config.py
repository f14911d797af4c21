# SPDX-License-Identifier: Apache-2.0
"""The sizes and switches of a decoder: plain frozen values, no arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from unilogit_jax.errors import ConfigError, suggest
from unilogit_jax.models.checks import check_name, check_positive
from unilogit_jax.models.rope import Rope

DTYPES = ("float32", "bfloat16")
CHOICES: dict[str, tuple[str, ...]] = {
    "norm": ("rms", "rms_late", "rms_one", "layer"),
    "block": ("pre", "sandwich", "post", "parallel", "parallel_shared"),
    "qk_norm": ("none", "head", "full"),
    "activation": ("silu", "gelu", "gelu_tanh", "relu"),
    "attention": ("auto", "xla", "cudnn", "splash"),
    "dtype": DTYPES,
    "param_dtype": DTYPES,
}
"""Field -> the words it may hold."""


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Everything that fixes a decoder's shape and arithmetic; hashable, hence static in jit."""

    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    block: str = "pre"
    """Where norms stand: before attention and MLP (pre), after them (post), on both sides
    (sandwich); parallel adds attention and MLP of the same input, under one shared norm or two."""
    norm: str = "rms"
    """rms: x / rms(x), rounded, times w; rms_late: times w, then rounded; rms_one: times 1 + w,
    then rounded; layer: LayerNorm with bias."""
    norm_eps: float = 1e-5
    qk_norm: str = "none"
    """Norm of queries and keys before rotation: of each head, or of all heads together (full)."""
    activation: str = "silu"
    gated: bool = True
    """The MLP multiplies its activation by a second projection."""
    qkv_bias: bool = False
    out_bias: bool = False
    """Bias of the projection behind attention."""
    mlp_bias: bool = False
    head_bias: bool = False
    """Bias of an untied output head."""
    rope: Rope | None = field(default_factory=Rope)
    """Rotary positions; None: learned ones, added to the embedding."""
    local_rope: Rope | None = None
    """Rotary positions of local layers, where they differ."""
    local_layers: tuple[bool, ...] = ()
    """For each layer whether it sees `window` tokens only; empty: none does."""
    window: int | None = None
    """Tokens that a local layer sees, the present one included."""
    attention_scale: float | None = None
    """Factor of attention scores; None: head_dim^-1/2."""
    attention_softcap: float | None = None
    """Scores become cap tanh(score / cap)."""
    final_softcap: float | None = None
    """The same for the logits."""
    embedding_scale: float | None = None
    """Factor of the token embedding, rounded to the compute dtype first."""
    tie_embeddings: bool = True
    """One array serves as embedding and as output head."""
    max_length: int = 2048
    """Longest row, prompt and answer together."""
    dtype: str = "float32"
    """Type of the computation."""
    param_dtype: str = "float32"
    """Type of the parameters."""
    attention: str = "auto"
    """Kernel of attention; auto chooses by device, dtype and shape."""
    init_scale: float = 0.02
    """Standard deviation of fresh weights."""
    family: str = "llama"
    """The Hugging Face `model_type` whose folder layout the weights are read and written in."""
    hf_config: str | None = field(default=None, compare=False, repr=False)
    """The config.json (JSON text) that this was read from; an export passes it on."""

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "width", "layers", "heads", "kv_heads", "head_dim", "mlp_width")
        check_positive("", self, (*sizes, "norm_eps", "max_length", "init_scale"))
        for name, known in CHOICES.items():
            check_name(name, getattr(self, name), known)
        if self.heads % self.kv_heads:
            raise ConfigError(
                f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})."
            )
        for rope in (self.rope, self.local_rope):
            if rope is not None:
                rope.check_head(self.head_dim)
        if self.local_layers and len(self.local_layers) != self.layers:
            raise ConfigError(
                f"local_layers has {len(self.local_layers)} entries for {self.layers} layers."
            )
        if any(self.local_layers) and (self.window is None or self.window < 1):
            raise ConfigError(f"local layers need a window of at least 1, got {self.window}.")

    def is_local(self, layer: int) -> bool:
        """Whether a layer sees only the last `window` tokens."""
        return bool(self.local_layers) and self.local_layers[layer]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DecoderConfig":
        """The configuration that `dataclasses.asdict` took apart, also after a trip through JSON.

        Example:
          >>> from dataclasses import asdict
          >>> config = DecoderConfig.scratch(vocab_size=8, width=8, heads=2)
          >>> DecoderConfig.from_dict(asdict(config)) == config
          True

        """
        values = dict(values)
        for name in ("rope", "local_rope"):
            if values.get(name) is not None:
                rope = dict(values[name])
                for factors in ("short_factors", "long_factors"):
                    rope[factors] = tuple(rope.get(factors, ()))
                values[name] = Rope(**rope)
        values["local_layers"] = tuple(values.get("local_layers", ()))
        return cls(**values)

    @classmethod
    def scratch(
        cls, *, vocab_size: int, width: int = 128, layers: int = 2, heads: int = 4, **others: Any
    ) -> "DecoderConfig":
        """The configuration of a model made from scratch; what is not given is derived.

        kv_heads = heads, head_dim = width / heads, mlp_width = 8/3 width to a multiple of 32.

        Args:
          vocab_size: number of tokens.
          width: model width.
          layers: number of layers.
          heads: attention heads.
          **others: any other field of DecoderConfig.

        Returns:
          The configuration.

        Raises:
          ConfigError: an unknown field, or sizes that do not fit together.

        Example:
          >>> DecoderConfig.scratch(vocab_size=512, width=128).mlp_width
          352

        """
        known = [f.name for f in fields(cls)]
        for name in others:
            if name not in known:
                raise ConfigError(f"model has no field '{name}'.{suggest(name, known)}")
        if "head_dim" not in others and (heads < 1 or width % heads):
            raise ConfigError(
                f"width ({width}) is no multiple of heads ({heads}): change one or give head_dim."
            )
        derived: dict[str, Any] = {
            "kv_heads": heads,
            "head_dim": width // max(1, heads),
            "mlp_width": max(32, round(width * 8 / 3 / 32) * 32),
        }
        sizes: dict[str, Any] = {
            "vocab_size": vocab_size,
            "width": width,
            "layers": layers,
            "heads": heads,
        }
        return cls(**(derived | sizes | others))
