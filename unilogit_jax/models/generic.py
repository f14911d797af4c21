# SPDX-License-Identifier: Apache-2.0
"""Two decoders read as one: a model without what a reinforced one prefers (WHP at inference)."""

import math
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int

from unilogit_jax.errors import ConfigError
from unilogit_jax.models.cache import Cache, make_cache
from unilogit_jax.models.config import DecoderConfig
from unilogit_jax.models.decoder import Decoder
from unilogit_jax.ops import GenericHead
from unilogit_jax.types import Head, ModelOutput

PARTS = ("base", "reinforced")
"""Whose parameters there are."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Caches:
    """Keys and values of both decoders, for the same tokens."""

    base: Cache
    reinforced: Cache

    @property
    def segments(self) -> Int[Array, "B S"]:
        """As in `Cache`."""
        return self.base.segments

    @property
    def index(self) -> Int[Array, ""]:
        """As in `Cache`."""
        return self.base.index

    def grown(self, slots: int) -> "Caches":
        """As in `Cache`."""
        return Caches(base=self.base.grown(slots), reinforced=self.reinforced.grown(slots))

    def apart(self) -> "Caches":
        """As in `Cache`."""
        return Caches(base=self.base.apart(), reinforced=self.reinforced.apart())


@dataclass(frozen=True)
class GenericDecoder:
    """Applied as a `Decoder` is, to parameters {"base": ..., "reinforced": ...} of one shape.

    v = v_base - alpha relu(v_reinforced - v_base)

    `generate`, `apply_fn` and what measures a model take it in place of a decoder. Each token costs
    a forward pass of both models, and each answer a cache of both.

    Args:
      decoder: of both.
      alpha: strength; 0 gives the base.

    Raises:
      ConfigError: alpha is no number, or negative.

    Reference: arXiv:2310.02238, equation 1.

    Example:
      >>> from unilogit_jax import models
      >>> config = DecoderConfig.scratch(vocab_size=16, width=8, layers=1, heads=2)
      >>> model, base = models.init(config, jax.random.key(0))
      >>> _, reinforced = models.init(config, jax.random.key(1))
      >>> both, params = GenericDecoder(model, 5.0), {"base": base, "reinforced": reinforced}
      >>> both.apply({"params": params}, jnp.ones((2, 3), jnp.int32)).logits().shape
      (2, 3, 16)
      >>> len(models.generate(both, params, [[1, 2, 3]], max_new_tokens=2, stop_ids=[])[0])
      2

    """

    decoder: Decoder
    alpha: float

    def __post_init__(self) -> None:
        check_alpha(self.alpha)

    @property
    def config(self) -> DecoderConfig:
        """That of both."""
        return self.decoder.config

    @property
    def mesh(self) -> Mesh | None:
        """Where both are."""
        return self.decoder.mesh

    def apply(
        self,
        variables: dict[str, Any],
        tokens: Int[Array, "B L"],
        segments: Int[Array, "B L"] | None = None,
        positions: Int[Array, "B L"] | None = None,
        cache: Caches | None = None,
        unseen: Bool[Array, "B L"] | None = None,
    ) -> Any:
        """As `Decoder.apply`.

        Returns:
          The output, whose `hidden` [B, L, 2D] are both models' and whose `head` makes generic
          logits of them; with a cache, (output, new cache).

        """
        made: list[Any] = [
            self.decoder.apply(
                {"params": variables["params"][name]},
                tokens,
                segments,
                positions,
                None if cache is None else getattr(cache, name),
                unseen,
            )
            for name in PARTS
        ]
        if cache is None:
            return self._output(*made)
        (base, one), (reinforced, other) = made
        return self._output(base, reinforced), Caches(base=one, reinforced=other)

    def head(self, base: Head, reinforced: Head) -> GenericHead:
        """The head of both."""
        return GenericHead(base=base, reinforced=reinforced, alpha=self.alpha)

    def _output(self, base: ModelOutput, reinforced: ModelOutput) -> ModelOutput:
        hidden = jnp.concatenate([base.hidden, reinforced.hidden], axis=-1)
        # It makes logits as a head does, and what needs more of one asks which it is.
        head = cast(Head, self.head(base.head, reinforced.head))
        return ModelOutput(hidden=hidden, head=head)


def check_alpha(alpha: float) -> None:
    """Refuses a strength that is none.

    Raises:
      ConfigError: alpha is no number, or negative.

    """
    if not (math.isfinite(alpha) and alpha >= 0):
        raise ConfigError(f"alpha must be a number of at least 0, got {alpha}.")


Model = Decoder | GenericDecoder
"""What answers can be generated with."""


def cache_for(model: Model, *, rows: int, length: int, dtype: str | None = None) -> Cache | Caches:
    """What `make_cache` makes, for each decoder of a model."""
    empty = make_cache(model.config, rows=rows, length=length, dtype=dtype, mesh=model.mesh)
    return empty if isinstance(model, Decoder) else Caches(base=empty, reinforced=empty)
