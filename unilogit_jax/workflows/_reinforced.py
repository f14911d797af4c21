# SPDX-License-Identifier: Apache-2.0
"""Reads a reinforced model beside a base, so that both are decoded as one (WHP at inference)."""

import dataclasses
from typing import Any

from jax.sharding import Mesh

from unilogit_jax import models
from unilogit_jax.config import load_config
from unilogit_jax.data import Tokenizer
from unilogit_jax.errors import ConfigError, WeightsError
from unilogit_jax.methods import Whp
from unilogit_jax.models.generic import check_alpha
from unilogit_jax.paths import AnyPath, Remote
from unilogit_jax.run import RunFolder
from unilogit_jax.workflows._runs import (
    ADAPTERS,
    REINFORCED,
    TARGET,
    is_run,
    last_stage,
    load_adapters,
    load_checkpoint,
    load_decoder_config,
    load_tokenizer_of,
)
from unilogit_jax.workflows._sources import tokenizer_of

WHP = "whp_decoding"
"""The column of both models decoded as one; whp is that of weights which the method made."""
_FREE = ("dtype", "param_dtype", "attention", "init_scale", "family")
"""What the shape of a model does not depend on."""


def reinforced_of(source: AnyPath | str | None, alpha: float | None) -> "Reinforced | None":
    """What is asked for, if anything is; without alpha as strongly as the method `whp` does.

    Raises:
      ConfigError: there is a strength and no model, or one out of range.

    """
    if source is None:
        if alpha is not None:
            raise ConfigError("--alpha is the strength of --whp REINFORCED: name that model too.")
        return None
    alpha = float(Whp.alpha if alpha is None else alpha)
    check_alpha(alpha)
    return Reinforced(source, alpha)


@dataclasses.dataclass(frozen=True)
class Reinforced:
    """Where a reinforced model comes from, and how strongly it counts."""

    source: AnyPath | str
    """A run of `finetune`, a run whose method made a reinforced model, or weights."""
    alpha: float

    def beside(
        self,
        model: models.Decoder,
        base: Any,
        *,
        tokenizer: Tokenizer,
        mesh: Mesh,
        run: RunFolder | None = None,
        family: str | None = None,
    ) -> tuple[models.GenericDecoder, dict[str, Any]]:
        """Both models as one.

        Args:
          model: the base's decoder.
          base: its weights.
          tokenizer: its tokenizer.
          mesh: where both live.
          run: the run that the base is the start of, if it is of one.
          family: as in `models.load`.

        Raises:
          WeightsError: the source holds no reinforced model, or one of another shape or vocabulary.

        """
        both = models.GenericDecoder(model, self.alpha)
        if is_run(self.source):
            params = self._of_run(RunFolder.open(self.source), model, base, tokenizer, mesh, run)
            return both, {"base": base, "reinforced": params}
        source = str(self.source) if isinstance(self.source, Remote) else self.source
        folder = models.resolve(source, weights=False)
        self._check_shape(models.read_decoder_config(folder, family=family), model.config)
        self._check_tokens(tokenizer_of(folder), tokenizer)
        _, params = models.load(
            source,
            dtype=model.config.dtype,
            param_dtype=model.config.param_dtype,
            mesh=mesh,
            family=family,
        )
        return both, {"base": base, "reinforced": params}

    def _of_run(
        self,
        run: RunFolder,
        model: models.Decoder,
        base: Any,
        tokenizer: Tokenizer,
        mesh: Mesh,
        base_run: RunFolder | None,
    ) -> Any:
        self._check_shape(load_decoder_config(run), model.config)
        self._check_tokens(load_tokenizer_of(run), tokenizer)
        stage = self._stage(run)
        if not stage.endswith(ADAPTERS):
            types = {"dtype": model.config.dtype, "param_dtype": model.config.param_dtype}
            return load_checkpoint(run, stage, **types, mesh=mesh)[1]
        if base_run is None or run.path.absolute() != base_run.path.absolute():
            raise WeightsError(
                f"--whp {self.source}: the reinforced model of this run is adapters on the weights "
                "that the run began with. Name the run as the base too."
            )
        section = load_config(run.config).lora
        assert section is not None
        lora = models.Lora(**section.model_dump())
        adapters = load_adapters(run, stage.removesuffix(ADAPTERS), model, lora, mesh=mesh)
        return models.merge_lora(base, adapters, lora)

    def _stage(self, run: RunFolder) -> str:
        """The stage that holds a reinforced model."""
        found = (folder.name for folder in run.checkpoints.iterdir())
        ends = (REINFORCED, REINFORCED + ADAPTERS)
        if made := sorted(name for name in found if name.endswith(ends)):
            return made[0]
        if (stage := last_stage(run)) == TARGET:
            return stage
        raise WeightsError(
            f"--whp {self.source}: this run unlearned without making a reinforced model. Name a "
            "run of 'unilogit finetune' on the forget rows, or one with method.name=whp."
        )

    def _check_shape(self, other: models.DecoderConfig, own: models.DecoderConfig) -> None:
        # Rows may be shorter in training than elsewhere; learned positions are weights.
        free = _FREE if own.rope is None else (*_FREE, "max_length")
        names = [f.name for f in dataclasses.fields(own) if f.compare and f.name not in free]
        if wrong := [n for n in names if getattr(other, n) != getattr(own, n)]:
            told = ", ".join(f"{n} {getattr(other, n)} and not {getattr(own, n)}" for n in wrong)
            raise WeightsError(
                f"--whp {self.source}: its model is not of the base's shape: {told}. The two must "
                "be of one architecture, such as the base and what it becomes on the forget rows."
            )

    def _check_tokens(self, other: Tokenizer, own: Tokenizer) -> None:
        """Numbers mean the same tokens; one may have some that the other lacks."""
        known = own.get_vocab()
        for token, number in other.get_vocab().items():
            if known.get(token, number) != number:
                raise WeightsError(
                    f"--whp {self.source}: its tokenizer numbers {token!r} {number}, the base's "
                    f"{known[token]}. The two models must have one vocabulary."
                )
