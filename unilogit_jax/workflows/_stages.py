# SPDX-License-Identifier: Apache-2.0
"""Runs one stage of a run: finetuning from scratch or from weights, or unlearning."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from unilogit_jax import models
from unilogit_jax.config import Training
from unilogit_jax.data import (
    Batches,
    PackingWish,
    Rows,
    finetune_batches,
    unlearning_batches,
)
from unilogit_jax.hosts import is_first
from unilogit_jax.methods import Finetune, Method
from unilogit_jax.run import Console, MetricsLog, RunFolder
from unilogit_jax.train import (
    Checkpoints,
    Stage,
    count_steps,
    fit,
    init_state,
    make_optimizer,
    make_step,
    reference_for,
)
from unilogit_jax.types import ModelOutput
from unilogit_jax.workflows._prepare import Prepared
from unilogit_jax.workflows._runs import ADAPTERS


def train_stage(
    prepared: Prepared,
    name: str,
    rows: Rows,
    *,
    start: Any | None,
    seed: int,
    run: RunFolder,
    console: Console,
) -> Any:
    """Finetunes on rows, from `start` or from freshly drawn weights; returns the weights."""
    training = prepared.experiment.finetune
    params = start
    if params is None:
        _, params = models.init(prepared.model.config, jax.random.key(seed), mesh=prepared.mesh)
    packing = _packing(prepared, training, len(rows))
    batches = finetune_batches(rows, batch_size=training.batch_size, seed=seed, packing=packing)
    weights = _whole_model(prepared, params)
    return _run_stage(
        prepared, name, Finetune(), batches, weights, training, len(rows), run, console
    )


def unlearn_stage(
    prepared: Prepared,
    name: str,
    method: Method,
    *,
    start: Any,
    run: RunFolder,
    console: Console,
) -> Any:
    """Unlearns the forget rows from `start`; returns the weights. `start` itself stays as it is."""
    training = prepared.experiment.unlearn
    references, ref_head = reference_for(
        method,
        models.apply_fn(prepared.model),
        start,
        prepared.forget,
        batch_size=prepared.experiment.eval.batch_size,
        mesh=prepared.mesh,
    )
    batches = unlearning_batches(
        prepared.forget,
        prepared.retain,
        batch_size=training.batch_size,
        retain_size=training.retain_size,
        seed=prepared.experiment.output.seed,
        sampling=training.retain_sampling,
        packing=_packing(prepared, training, len(prepared.forget)),
        **references,
    )
    count, lora = len(prepared.forget), prepared.lora
    if lora is None:
        weights = _whole_model(prepared, start, ref_head)
        return _run_stage(prepared, name, method, batches, weights, training, count, run, console)
    seed = prepared.experiment.output.seed
    weights = _Weights(
        trained=lora.init(prepared.model, jax.random.key(seed), mesh=prepared.mesh),
        axes=lora.logical_axes(prepared.model),
        apply_fn=models.lora_apply_fn(prepared.model, lora),
        ref_head=ref_head,
        frozen=start,
        seed=seed if lora.dropout > 0 else None,
    )
    adapters = _run_stage(
        prepared, f"{name}{ADAPTERS}", method, batches, weights, training, count, run, console
    )
    merged = models.merge_lora(start, adapters, lora)
    with Checkpoints(run.checkpoints / name) as checkpoints:
        if checkpoints.latest() is None:
            checkpoints.save(1, {"params": merged}, {"stage": name, "merged": True})
    return merged


class _Weights(NamedTuple):
    """What a stage trains, and how it makes a model of it."""

    trained: Any
    axes: Any
    apply_fn: Callable[..., ModelOutput]
    ref_head: Any = None
    frozen: Any = None
    seed: int | None = None
    """Of dropout, where there is any."""


def _whole_model(prepared: Prepared, params: Any, ref_head: Any = None) -> _Weights:
    model = prepared.model
    return _Weights(params, models.logical_axes(model), models.apply_fn(model), ref_head)


def _packing(prepared: Prepared, training: Training, rows: int) -> PackingWish | None:
    if training.packing is None:
        return None
    shape = prepared.mesh.shape
    parts = shape["data"] * shape["fsdp"] * training.microbatches
    updates = _count_steps(training, rows)
    return PackingWish(updates=updates, length=training.packing, multiple=parts)


def _count_steps(training: Training, rows: int) -> int:
    return count_steps(
        rows, batch_size=training.batch_size, steps=training.steps, epochs=training.epochs
    )


def _run_stage(
    prepared: Prepared,
    name: str,
    method: Method,
    batches: Batches,
    weights: _Weights,
    training: Training,
    rows: int,
    run: RunFolder,
    console: Console,
) -> Any:
    output = prepared.experiment.output
    steps = _count_steps(training, rows)
    optimizer = make_optimizer(
        steps,
        learning_rate=training.learning_rate,
        name=training.optimizer,
        schedule=training.schedule,
        warmup=training.warmup,
        weight_decay=training.weight_decay,
        clip=training.clip,
    )
    state, shardings = init_state(
        weights.trained,
        optimizer,
        axes=weights.axes,
        mesh=prepared.mesh,
        ref_head=weights.ref_head,
    )
    step_fn = make_step(
        method,
        weights.apply_fn,
        optimizer,
        prepared.mesh,
        shardings=shardings,
        frozen=weights.frozen,
        seed=weights.seed,
        microbatches=training.microbatches,
    )
    stage = Stage(
        name=name,
        step_fn=step_fn,
        batch_at=batches,
        steps=steps,
        mesh=prepared.mesh,
        checkpoint_every=output.checkpoint_every,
        log_every=output.log_every,
        max_skipped=training.max_skipped,
    )
    log = MetricsLog(run.metrics)
    folder = run.checkpoints / name
    with (
        console.stage(name, total=steps) as progress,
        Checkpoints(folder, keep=output.keep_checkpoints) as checkpoints,
    ):
        if batches.packing is not None:
            progress.note(str(batches.packing))
        if is_first():
            log.truncate_after(name, checkpoints.latest() or 0)

        def write(**line: Any) -> None:
            for bad in log.write(**line) if is_first() else ():
                console.warn(f"stage {name}, update {line['step']}: {bad} is not finite.")

        return fit(stage, state, checkpoints, progress=progress, log=write).params
