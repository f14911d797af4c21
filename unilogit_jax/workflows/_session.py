# SPDX-License-Identifier: Apache-2.0
"""The frame of a run: check everything, open or make its folder, keep its status true."""

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from unilogit_jax.config import Experiment, dump_config
from unilogit_jax.run import Console, RunFolder
from unilogit_jax.workflows._prepare import Prepared, prepare
from unilogit_jax.workflows._runs import write_model


@contextmanager
def session(
    experiment: Experiment,
    *,
    out: Path | None,
    resume: RunFolder | None,
    console: Console,
    verb: str,
    notes: Sequence[str] = (),
) -> Iterator[tuple[Prepared, RunFolder]]:
    """A checked experiment and its run folder: status running, then done or failed with the reason.

    Nothing is written before the data and the weights are known to be usable.
    """
    with console.stage("reading data and weights") as stage:
        prepared = prepare(experiment, resume, progress=stage.amount)
    _describe(console, prepared)
    if resume is not None:
        run = resume
    else:
        run = RunFolder.create(
            experiment.output.dir, experiment.name, config_yaml=dump_config(experiment), exact=out
        )
    console.log_to(run.log)
    console.line(f"run folder: {run.path}")
    for note in notes:
        console.warn(note)
    run.set_status("running")
    run.write_env({"verb": verb, "seed": experiment.output.seed})
    try:
        write_model(run, prepared.model, prepared.tokenizer)
        yield prepared, run
    except BaseException as error:
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{error}"
        console.log(traceback.format_exc())
        run.set_status(f"failed: {' '.join(reason.split()) or type(error).__name__}")
        raise
    run.set_status("done")


def _describe(console: Console, prepared: Prepared) -> None:
    """One line on the model and one on the data."""
    config, task = prepared.model.config, prepared.task
    console.line(
        f"model: {config.layers} layers, width {config.width}, vocabulary {config.vocab_size}, "
        f"{prepared.parameters:,} parameters, {config.dtype} · "
        f"{prepared.mesh.size} device(s)"
    )
    console.line(
        f"data: {task.name}, {len(task.forget)} rows to forget, {len(task.retain)} to keep, "
        f"up to {prepared.everything.length} tokens a row"
    )
