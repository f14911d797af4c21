# SPDX-License-Identifier: Apache-2.0
"""The sizes and switches of a decoder: plain frozen values, no arrays."""

from dataclasses import dataclass, field, fields
from typing import Any

from unilogit_jax.errors import ConfigError, suggest

ROPE_KINDS = ("default", "llama3")
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Rope:
    """Rotary position embedding; the last four fields count only for the kind "llama3"."""

    theta: float = 10000.0
    """Base of the wavelengths."""
    kind: str = "default"
    factor: float = 8.0
    """Wavelengths beyond `original_max_length / low_freq_factor` are stretched by this."""
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    """Wavelengths below `original_max_length / high_freq_factor` are kept as they are."""
    original_max_length: int = 8192
    """Length that the model was first trained at."""

    def __post_init__(self) -> None:
        _check_name("rope.kind", self.kind, ROPE_KINDS)
        _check_positive(
            "rope.", self, ("theta", "factor", "low_freq_factor", "original_max_length")
        )
        if self.high_freq_factor <= self.low_freq_factor:
            raise ConfigError(
                f"rope.high_freq_factor ({self.high_freq_factor}) must be larger than "
                f"rope.low_freq_factor ({self.low_freq_factor})."
            )


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
    rope: Rope = field(default_factory=Rope)
    norm_eps: float = 1e-5
    tie_embeddings: bool = True
    """One array serves as embedding and as output head."""
    max_length: int = 2048
    """Longest row, prompt and answer together."""
    dtype: str = "float32"
    """Type of the computation; parameters have their own."""
    init_scale: float = 0.02
    """Standard deviation of fresh weights."""
    family: str = "llama"
    """The Hugging Face `model_type` whose folder layout the weights are read and written in."""

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "width", "layers", "heads", "kv_heads", "head_dim", "mlp_width")
        _check_positive("", self, (*sizes, "norm_eps", "max_length", "init_scale"))
        _check_name("dtype", self.dtype, DTYPES)
        if self.heads % self.kv_heads:
            raise ConfigError(
                f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})."
            )
        if self.head_dim % 2:
            raise ConfigError(f"head_dim must be even for rotary positions, got {self.head_dim}.")

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


def _check_positive(prefix: str, config: Any, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(config, name)
        if not value > 0:
            raise ConfigError(f"{prefix}{name} must be larger than 0, got {value}.")


def _check_name(field: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(
            f"{field} '{value}' is unknown; known: {', '.join(known)}.{suggest(value, known)}"
        )
