# SPDX-License-Identifier: Apache-2.0
"""Each forget token's own label probability, for methods that want one; computed once."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from unilogit_jax import models
from unilogit_jax.data import Rows, Tokenizer, ngram_log_odds
from unilogit_jax.errors import ConfigError
from unilogit_jax.hosts import agreed
from unilogit_jax.methods import Method
from unilogit_jax.run import RunFolder
from unilogit_jax.train import ReferenceCache, References, log_odds_under
from unilogit_jax.types import FORGET, Items
from unilogit_jax.workflows._name_swap import check_names, name_swap_log_odds
from unilogit_jax.workflows._prepare import Prepared
from unilogit_jax.workflows._runs import (
    is_run,
    load_decoder_config,
    load_stage,
    load_tokenizer_of,
)
from unilogit_jax.workflows._sources import tokenizer_of


def check_targets(prepared: Prepared) -> None:
    """Refuses sources of tau that are not to be had here, before anything is computed."""
    experiment = prepared.experiment
    for method in (experiment.method, *experiment.compare):
        source = method.needs.tau
        if source == "own":
            raise ConfigError(
                "method.tau own is an array that a program hands in; a run takes a number, "
                "uniform, ngram, name_swap or reference."
            )
        if source == "ngram" and prepared.retain is None:
            raise ConfigError(
                "method.tau ngram counts the rows to keep, and there are none: name some with "
                "data.retain, or take another tau."
            )
        if source == "name_swap":
            check_names(prepared, method)
        if source == "reference":
            _check_same_tokens(prepared, _source(method))


def with_targets(
    prepared: Prepared,
    method: Method,
    references: References,
    cache: ReferenceCache | None = None,
    *,
    start: Any,
    say: Callable[[str], None] = lambda text: None,
    progress: Items = lambda *done: None,
) -> References:
    """The references, with `logit_tau` of the forget rows where the method wants it.

    Args:
      prepared: the experiment.
      method: its `needs` say where the numbers come from.
      references: what is known already.
      cache: where to keep what another model says of them.
      start: weights of the start model.
      say: told of labels for which the source has nothing.
      progress: told of rows that are done.

    """
    if not method.needs.tau:
        return references
    tau = _logit_tau(prepared, method, cache, start, say, progress)
    return {**references, FORGET: {**references.get(FORGET, {}), "logit_tau": tau}}


def facts_of(config: models.DecoderConfig) -> dict[str, Any]:
    """What decides how a model computes, for a `ReferenceCache`."""
    facts = asdict(config)
    del facts["hf_config"]  # only passed on to exports
    return facts


def _logit_tau(
    prepared: Prepared,
    method: Method,
    cache: ReferenceCache | None,
    start: Any,
    say: Callable[[str], None],
    progress: Items,
) -> Float[np.ndarray, "B L"]:
    if method.needs.tau == "name_swap":
        return name_swap_log_odds(prepared, method, start, say, progress)
    if method.needs.tau == "ngram":
        assert prepared.retain is not None  # `check_targets` has seen to it
        size = prepared.model.config.vocab_size
        return ngram_log_odds(prepared.retain, prepared.forget, vocab_size=size)
    return _under_reference(prepared, _source(method), prepared.forget, cache, progress)


def _source(method: Any) -> str:
    """Where the weights of tau are."""
    return method.tau_weights


def _under_reference(
    prepared: Prepared, source: str, rows: Rows, cache: ReferenceCache | None, progress: Items
) -> Float[np.ndarray, "B L"]:
    """What a model that never saw the rows says of them; its weights are dropped again."""
    experiment, mesh = prepared.experiment, prepared.mesh
    types: dict[str, Any] = experiment.model.model_dump(include={"dtype", "param_dtype"})

    def load() -> tuple[Any, Any]:
        if is_run(source):
            return load_stage(RunFolder.open(source), mesh=mesh, **types)
        return models.load(source, mesh=mesh, attention=experiment.model.attention, **types)

    model, params = agreed(load)
    if cache is not None:
        cache = replace(cache, model=facts_of(model.config), source=source)
    return log_odds_under(
        models.apply_fn(model),
        params,
        rows,
        batch_size=experiment.eval.batch_size,
        mesh=mesh,
        cache=cache,
        progress=progress,
    )


def _check_same_tokens(prepared: Prepared, source: str) -> None:
    """Refuses a model whose tokens are not those of the model to unlearn."""
    tokenizer, config = _read(source)
    size, own = config.vocab_size, prepared.model.config.vocab_size
    same = prepared.tokenizer is None or tokenizer.get_vocab() == prepared.tokenizer.get_vocab()
    if size != own or not same:
        raise ConfigError(
            f"method.tau_weights {source} has other tokens ({size} in its vocabulary) than the "
            f"model to unlearn ({own}): tau reference needs the same tokenizer."
        )


def _read(source: str) -> tuple[Tokenizer, models.DecoderConfig]:
    """Tokenizer and shape of some weights, which are not read."""
    if is_run(source):
        run = RunFolder.open(source)
        return load_tokenizer_of(run), load_decoder_config(run)
    folder = models.resolve(source, weights=False)
    return tokenizer_of(folder), models.read_decoder_config(folder)
