# SPDX-License-Identifier: Apache-2.0
"""Runs one stage of a run: finetuning from scratch or from weights, or unlearning."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import jax

from unilogit_jax import __version__, models
from unilogit_jax.accelerators import accelerator_of
from unilogit_jax.data import Rows
from unilogit_jax.errors import ConfigError
from unilogit_jax.evaluation import Evaluator, summarize
from unilogit_jax.hosts import by_first, is_first
from unilogit_jax.methods import Method
from unilogit_jax.run import Console, MetricsLog, RunFolder
from unilogit_jax.train import (
    Checkpoints,
    ReferenceCache,
    References,
    Stage,
    Watch,
    finisher,
    fit,
    init_state,
    reference_for,
)
from unilogit_jax.train.reference import names_of
from unilogit_jax.types import Head
from unilogit_jax.workflows._advice import memory_advice, settings_of
from unilogit_jax.workflows._prepare import Prepared
from unilogit_jax.workflows._programs import (
    Program,
    finetune_program,
    reinforce_program,
    unlearn_program,
    up_to,
)
from unilogit_jax.workflows._record import note_stage
from unilogit_jax.workflows._targets import facts_of, with_targets

_SMALL_STEPS = (
    "stage {name}: most steps are below half the rounding unit of the bfloat16 weights (below_ulp "
    "in metrics.jsonl). Stochastic rounding keeps their mean but adds noise; "
    "model.param_dtype=float32 or a larger learning_rate avoids it."
)


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
    """Finetunes on rows, from `start` or from freshly drawn weights; returns the weights.

    `start` must not be used any more.
    """
    params = start
    if params is None:
        _, params = models.init(prepared.model.config, jax.random.key(seed), mesh=prepared.mesh)
    program = finetune_program(prepared, name, rows, params, seed=seed)
    return _run_stage(prepared, program, run, console)


def unlearn_stage(
    prepared: Prepared,
    name: str,
    method: Method,
    *,
    start: Any,
    evaluator: Evaluator,
    before: Mapping[str, float],
    run: RunFolder,
    console: Console,
    last: bool,
) -> Any:
    """Unlearns the forget rows from `start`; returns the weights.

    If this is the `last` stage that begins with `start`, these must not be used any more. Where the
    configuration asks for it, weights are evaluated on the way; `before` are the numbers of
    `start`.
    """
    reinforced = None
    if method.needs.reinforced is not None:
        program = reinforce_program(prepared, name, start)
        trained = _run_stage(prepared, program, run, console)
        reinforced = finisher(program.method, start, prepared.lora)(trained)
        del program, trained
    references, ref_head = _references(prepared, method, start, reinforced, run, console)
    del reinforced
    program = unlearn_program(
        prepared, name, method, start, references=references, ref_head=ref_head, last=last
    )
    result = finisher(method, start, prepared.lora)

    def evaluate(trained: Any) -> Mapping[str, float]:
        with console.stage("evaluating on the way") as progress:
            # No number of the table needs gradient norms, which cost the most.
            found = evaluator(result(trained), grad_norm=False, progress=progress.items)
            return summarize(found)

    watch = {
        "watch": _watch(prepared, before),
        "evaluate": evaluate,
    }
    trained = _run_stage(prepared, program, run, console, **watch)
    params = result(trained)
    if program.name != name:  # what was trained is not yet what the stage is for
        with Checkpoints(run.checkpoints / name) as checkpoints:
            if checkpoints.latest() is None:
                checkpoints.save(1, {"params": params}, {"stage": name, "made_of": program.name})
    return params


def _references(
    prepared: Prepared,
    method: Method,
    start: Any,
    reinforced: Any,
    run: RunFolder,
    console: Console,
) -> tuple[References, Head | None]:
    """What the start model says of the rows, as far as the method needs it, and its head."""
    rows, needs = prepared.rows(method), method.needs
    asks = bool(needs.tau) or any(names_of(needs, which) for which in rows)
    with console.stage("asking the start model") if asks else nullcontext() as stage:
        told = {} if stage is None else {"progress": stage.items}
        cache = ReferenceCache(
            folder=run.references,
            model=facts_of(prepared.model.config),
            version=__version__,
            warn=console.warn,
        )
        found, ref_head = reference_for(
            method,
            models.apply_fn(up_to(prepared.model, needs.layer)),
            start,
            rows,
            batch_size=prepared.experiment.eval.batch_size,
            mesh=prepared.mesh,
            cache=cache,
            reinforced=reinforced,
            **told,
        )
        how = {"start": start, "say": console.warn, **told}
        return with_targets(prepared, method, found, cache, **how), ref_head


def _watch(prepared: Prepared, before: Mapping[str, float]) -> Watch | None:
    rule = prepared.experiment.watch
    if rule is None:
        return None
    for key, number in (("utility", rule.utility), ("forget", rule.forget)):
        if number not in before:
            raise ConfigError(
                f"watch.{key} {number} is not measured on this data; choose one of: "
                f"{', '.join(name for name in before if name.startswith(number[:6]))}."
            )
    return Watch(
        every=rule.every,
        start=before,
        utility=rule.utility,
        forget=rule.forget,
        floor=rule.utility_floor,
        target=rule.forget_target,
    )


def _run_stage(
    prepared: Prepared, program: Program, run: RunFolder, console: Console, **watch: Any
) -> Any:
    name, training = program.name, program.training
    output, config = prepared.experiment.output, prepared.model.config
    weights, mesh = program.weights, prepared.mesh
    state, shardings = init_state(
        weights.trained,
        program.optimizer(),
        axes=weights.axes,
        mesh=mesh,
        ref_head=weights.ref_head,
        trainable=weights.trainable,
        consume=program.consumes,
        method_state=program.method_state(prepared),
    )
    accelerator = accelerator_of(mesh.devices.flat[0])
    stage = Stage(
        name=name,
        step_fn=program.step(prepared, shardings),
        batch_at=program.batches,
        steps=program.updates,
        mesh=mesh,
        checkpoint_every=output.checkpoint_every,
        log_every=output.log_every,
        max_skipped=training.max_skipped,
        settings=settings_of(prepared.experiment, program.section, program.method),
        flops_of=program.flops_of(config),
        peak=accelerator.flops * mesh.size if accelerator else None,
        profile=run.profile / name if output.profile else None,
        memory_advice=memory_advice(prepared.experiment, program.section),
        **watch,
    )
    by_first(lambda: note_stage(run, program, prepared))
    log = MetricsLog(run.metrics)
    folder = run.checkpoints / name
    with (
        console.stage(name, total=program.updates) as progress,
        # The lines up to a checkpoint have to be there where the checkpoint is.
        Checkpoints(folder, keep=output.keep_checkpoints, before_save=log.flush) as checkpoints,
    ):
        if program.batches.packing is not None:
            progress.note(str(program.batches.packing))
        kept = checkpoints.latest() or 0
        by_first(lambda: log.truncate_after(name, kept))

        def write(**line: Any) -> None:
            for bad in log.write(**line) if is_first() else ():
                console.warn(f"stage {name}, update {line['step']}: {bad} is not finite.")
            prepared.trackers.log(**line)
            # Where the rate is about its peak: in warm-up and decay small steps mean nothing.
            share = line["step"] / program.updates
            at_peak = training.warmup < share <= (1 + training.warmup) / 2
            if at_peak and line.get("below_ulp", 0.0) > 0.5:
                console.warn(_SMALL_STEPS.format(name=name))

        return fit(stage, state, checkpoints, progress=progress, log=write).params
