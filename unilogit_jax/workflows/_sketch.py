# SPDX-License-Identifier: Apache-2.0
"""An experiment with the shapes of its weights in place of weights, for a plan."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from unilogit_jax import models
from unilogit_jax.config import Experiment
from unilogit_jax.data import Task, Tokenizer, check_vocabulary
from unilogit_jax.errors import WeightsError
from unilogit_jax.models.published import look_like
from unilogit_jax.run import RunFolder
from unilogit_jax.sharding import make_mesh
from unilogit_jax.train.state import place
from unilogit_jax.workflows._checks import check_rows
from unilogit_jax.workflows._prepare import (
    Prepared,
    TaskRows,
    check_attention,
    check_patterns,
    encode_rows,
    from_scratch,
    full_rows,
    put_together,
    read_task,
)
from unilogit_jax.workflows._runs import is_run, load_decoder_config, load_tokenizer_of
from unilogit_jax.workflows._sources import tokenizer_of


def sketch(experiment: Experiment, *, devices: Sequence[Any]) -> tuple[Prepared, list[str]]:
    """As `prepare`, on any devices, without reading or fetching weights.

    Returns:
      The experiment, and what was assumed where something is not at hand.

    Raises:
      UnilogitError: whatever is wrong with the data, the configuration or the mesh.

    """
    mesh = make_mesh(**experiment.mesh.model_dump(), devices=devices)
    check_rows(experiment, mesh)
    task = read_task(experiment)
    notes: list[str] = []
    if experiment.model.scratch is not None:
        tokenizer, model = from_scratch(experiment.model.scratch, task, experiment, None, mesh)
        base = None
    else:
        tokenizer, config = _shape_of(experiment, notes)
        check_attention(experiment, config, mesh)
        check_patterns(experiment, config)
        model = models.Decoder(config, mesh=mesh)
        base = weight_shapes(model)
    if tokenizer is None:
        length = experiment.data.max_length
        notes.append(f"no tokenizer at hand: every row counts as {length} tokens (data.max_length)")
        rows = _full_rows(task, length)
    else:
        rows = encode_rows(experiment, task, tokenizer)
    prepared = put_together(
        experiment, mesh=mesh, task=task, tokenizer=tokenizer, model=model, base=base, rows=rows
    )
    return prepared, notes


def weight_shapes(model: models.Decoder) -> Any:
    """Shapes, types and places of a model's weights."""
    assert model.mesh is not None
    return place(models.param_shapes(model), models.param_shardings(model, model.mesh))


def _shape_of(
    experiment: Experiment, notes: list[str]
) -> tuple[Tokenizer | None, models.DecoderConfig]:
    settings = experiment.model
    source = settings.weights or ""
    types = {"dtype": settings.dtype, "param_dtype": settings.param_dtype}
    if is_run(source):
        run = RunFolder.open(source)
        return load_tokenizer_of(run), dataclasses.replace(load_decoder_config(run), **types)
    types["attention"] = settings.attention
    try:
        folder = models.resolve(source, revision=settings.revision, weights=False)
        config = models.read_decoder_config(folder, family=settings.family)
        tokenizer = tokenizer_of(folder)
        check_vocabulary(tokenizer, config.vocab_size, folder)
        return tokenizer, dataclasses.replace(config, **types)
    except WeightsError:
        name = look_like(source)
        if name is None:
            raise
        notes.append(f"{source} is not at hand: its shape is taken to be that of {name}")
        return None, models.published_config(name, **types)


def _full_rows(task: Task, length: int) -> TaskRows:
    forget, retain = len(task.forget), len(task.retain)
    return TaskRows(
        full_rows(forget, length),
        full_rows(retain, length) if retain else None,
        full_rows(forget + retain, length),
    )
