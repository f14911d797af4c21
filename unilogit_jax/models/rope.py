# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding: its kinds, angles from positions, the rotation of queries and keys."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from unilogit_jax.errors import ConfigError
from unilogit_jax.models.checks import check_name, check_positive

WIDEST = 65536
"""Entries of a head; tables of angles are made for as many."""
ROPE_KINDS = ("default", "linear", "dynamic", "yarn", "llama3", "longrope")


@dataclass(frozen=True, kw_only=True)
class Rope:
    """Rotary position embedding; each kind reads the fields that its formula names."""

    theta: float = 10000.0
    """Base of the wavelengths."""
    kind: str = "default"
    fraction: float = 1.0
    """Share of each head that is rotated, its first entries."""
    factor: float = 8.0
    """How many times longer than `original_max_length` a text may be."""
    original_max_length: int = 8192
    """Length that the model was first trained at; for dynamic, the longest one left unscaled."""
    low_freq_factor: float = 1.0
    """llama3: wavelengths beyond original_max_length / this are stretched by the factor."""
    high_freq_factor: float = 4.0
    """llama3: wavelengths below original_max_length / this are kept."""
    beta_fast: float = 32.0
    """yarn: dimensions that turn more often than this over the original length are kept."""
    beta_slow: float = 1.0
    """yarn: dimensions that turn less often than this are stretched by the factor."""
    truncate: bool = True
    """yarn: round the range between the two outwards to whole dimensions."""
    attention_factor: float = 1.0
    """yarn and longrope: multiplies cosine and sine, and so sharpens attention."""
    short_factors: tuple[float, ...] = ()
    """longrope: divisor of each frequency in texts of up to the original length."""
    long_factors: tuple[float, ...] = ()
    """longrope: the same in longer texts."""

    def __post_init__(self) -> None:
        check_name("rope.kind", self.kind, ROPE_KINDS)
        names = ("theta", "fraction", "factor", "low_freq_factor", "original_max_length")
        check_positive("rope.", self, names)
        if self.high_freq_factor <= self.low_freq_factor:
            raise ConfigError(
                f"rope.high_freq_factor ({self.high_freq_factor}) must be larger than "
                f"rope.low_freq_factor ({self.low_freq_factor})."
            )

    def width(self, head_dim: int) -> int:
        """Number of entries of a head that are rotated."""
        return int(head_dim * self.fraction)

    def check_head(self, head_dim: int) -> None:
        """Heads of this width can be rotated.

        Raises:
          ConfigError: they cannot.

        """
        if head_dim > WIDEST:
            raise ConfigError(f"heads have at most {WIDEST} entries, head_dim is {head_dim}.")
        width = self.width(head_dim)
        if not 0 < width <= head_dim:
            raise ConfigError(
                f"rotary positions turn {width} of {head_dim} entries of a head: rope.fraction is "
                f"{self.fraction}."
            )
        if width % 2:
            raise ConfigError(
                f"head_dim must be even for rotary positions, got {head_dim} "
                f"({width} entries rotated)."
            )
        counts = len(self.short_factors), len(self.long_factors)
        if self.kind == "longrope" and counts != (width // 2, width // 2):
            raise ConfigError(
                f"longrope of {width} rotated entries needs {width // 2} short and {width // 2} "
                f"long factors, got {counts[0]} and {counts[1]}."
            )


def rope_frequencies(rope: Rope, head_dim: int) -> np.ndarray:
    """Radians per position of each pair of entries, [width / 2], float32.

    default: theta^(-2i / width). The others change these: linear divides all by `factor`; llama3
    and yarn divide the slow ones, keep the fast ones and go from one to the other in between
    (llama3 linearly in the number of turns, yarn linearly in i); longrope divides each by a number
    of its own; dynamic raises theta. The last two depend on the text's length and are given here
    for a text of up to the original one.

    Example:
      >>> rope_frequencies(Rope(theta=100.0), 4).tolist()
      [1.0, 0.10000000149011612]

    Reference: arXiv:2104.09864, section 3.2.2; linear: arXiv:2306.15595; yarn: arXiv:2309.00071;
      longrope: arXiv:2402.13753; llama3: Llama 3.1 model card.
    """
    width = rope.width(head_dim)
    plain = rope.theta ** (-np.arange(0, width, 2, dtype=np.float64) / width)
    if rope.kind == "linear":
        plain = plain / rope.factor
    elif rope.kind == "longrope":
        plain = plain / np.asarray(rope.short_factors, np.float64)
    elif rope.kind in ("llama3", "yarn"):
        ramp = _llama3_ramp(rope, plain) if rope.kind == "llama3" else _yarn_ramp(rope, width)
        plain = ramp * plain + (1.0 - ramp) * plain / rope.factor
    return plain.astype(np.float32)


def rope_table(
    positions: Int[Array, "rows L"],
    rope: Rope,
    head_dim: int,
    dtype: str,
    segments: Int[Array, "B L"] | None = None,
) -> tuple[Float[Array, "some L 1 half"], Float[Array, "some L 1 half"]]:
    """Cosine and sine of every position's angles; angles in float32, the result in `dtype`.

    longrope and dynamic choose by the length of a token's own text, its segment, so that neither
    padding nor other rows of the batch change the result.

    Args:
      positions: place of each token in its text; one row stands for all that are alike.
      rope: kind and constants.
      head_dim: width of a head.
      dtype: of the result.
      segments: the text that a token belongs to; None: each row is one text.

    """
    frequencies = jnp.asarray(rope_frequencies(rope, head_dim))[None, None, :]
    if rope.kind in ("longrope", "dynamic"):
        lengths = _text_lengths(positions, segments)[:, :, None]
        longer = _frequencies_of_longer(rope, head_dim, lengths)
        frequencies = jnp.where(lengths > rope.original_max_length, longer, frequencies)
    angles = positions[:, :, None].astype(jnp.float32) * frequencies
    angles = angles[:, :, None, :]
    scale = rope.attention_factor if rope.kind in ("yarn", "longrope") else 1.0
    return (jnp.cos(angles) * scale).astype(dtype), (jnp.sin(angles) * scale).astype(dtype)


def rotate(
    x: Float[Array, "B L heads head_dim"],
    cos: Float[Array, "rows L 1 half"],
    sin: Float[Array, "rows L 1 half"],
) -> Float[Array, "B L heads head_dim"]:
    """Turns entry i and entry i + half of every head by the position's angle i.

    Entries from 2 half on are left as they are.
    """
    half = cos.shape[-1]
    a, b, rest = jnp.split(x, (half, 2 * half), axis=-1)
    parts = [a * cos - b * sin, b * cos + a * sin]
    return jnp.concatenate(parts if rest.shape[-1] == 0 else [*parts, rest], axis=-1)


def _llama3_ramp(rope: Rope, plain: np.ndarray) -> np.ndarray:
    """1 where a frequency is kept, 0 where it is divided."""
    turns = rope.original_max_length * plain / (2 * math.pi)
    span = rope.high_freq_factor - rope.low_freq_factor
    return np.clip((turns - rope.low_freq_factor) / span, 0.0, 1.0)


def _yarn_ramp(rope: Rope, width: int) -> np.ndarray:
    """1 where a frequency is kept, 0 where it is divided."""

    def place(turns: float) -> float:
        """The dimension that turns so often over the original length."""
        span = rope.original_max_length / (2 * math.pi * turns)
        return width * math.log(span) / (2 * math.log(rope.theta))

    low, high = place(rope.beta_fast), place(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    # The width of an empty range, as the authors' code has it.
    span = high - low if high != low else 0.001
    return 1.0 - np.clip((np.arange(width // 2) - low) / span, 0.0, 1.0)


def _frequencies_of_longer(
    rope: Rope, head_dim: int, lengths: Int[Array, "rows L 1"]
) -> Float[Array, "some cols half"]:
    """Frequencies in texts that are longer than the original length."""
    width = rope.width(head_dim)
    exponents = np.arange(0, width, 2, dtype=np.float32) / width
    if rope.kind == "longrope":
        divisors = np.asarray(rope.long_factors, np.float64)
        table = (rope.theta ** -exponents.astype(np.float64) / divisors).astype(np.float32)
        return jnp.asarray(table)[None, None, :]
    stretch = rope.factor * lengths / rope.original_max_length - (rope.factor - 1.0)
    theta = rope.theta * jnp.maximum(stretch, 1.0) ** (width / (width - 2))
    return theta ** -jnp.asarray(exponents)[None, None, :]


def _text_lengths(
    positions: Int[Array, "rows L"], segments: Int[Array, "B L"] | None
) -> Int[Array, "some L"]:
    """Length of the text that each token belongs to: its last token's position plus one.

    A segment is one run of a row with rising positions, so its last token holds the largest.
    """
    if segments is None:
        return jnp.broadcast_to(positions[:, -1:] + 1, positions.shape)
    length = positions.shape[1]
    columns = jnp.arange(length)[None, :]
    following = jnp.concatenate([segments[:, 1:], jnp.full_like(segments[:, :1], -1)], axis=1)
    ends = jnp.where(segments != following, columns, length - 1)
    ends = jnp.broadcast_to(ends, segments.shape)
    last = jax.lax.cummin(ends, axis=1, reverse=True)
    return jnp.take_along_axis(jnp.broadcast_to(positions, segments.shape), last, axis=1) + 1
