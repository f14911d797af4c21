# SPDX-License-Identifier: Apache-2.0
"""The frame of a run: check everything, open or make its folder, keep its status true."""

import errno
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from unilogit_jax.config import Experiment, dump_config
from unilogit_jax.data import Task
from unilogit_jax.errors import CheckpointError
from unilogit_jax.hosts import (
    agreed,
    by_first,
    check_same,
    check_shared,
    from_first,
    is_first,
    several,
)
from unilogit_jax.paths import AnyPath, to_path
from unilogit_jax.run import Console, RunFolder, read_json
from unilogit_jax.run.lock import take
from unilogit_jax.run.trackers import check_trackers
from unilogit_jax.workflows._advice import memory_told
from unilogit_jax.workflows._prepare import Prepared, prepare
from unilogit_jax.workflows._record import note_start
from unilogit_jax.workflows._runs import write_model
from unilogit_jax.workflows._targets import check_targets


@contextmanager
def session(
    experiment: Experiment,
    *,
    out: AnyPath | str | None,
    resume: RunFolder | None,
    console: Console,
    verb: str,
    notes: Sequence[str] = (),
) -> Iterator[tuple[Prepared, RunFolder]]:
    """A checked experiment and its run folder: status running, then done or failed with the reason.

    Nothing is written before the data and the weights are known to be usable.
    """
    section = "finetune" if verb == "finetune" else "unlearn"
    with memory_told(experiment, section):
        yield from _session(experiment, out, resume, console, verb, notes)


def _session(
    experiment: Experiment,
    out: AnyPath | str | None,
    resume: RunFolder | None,
    console: Console,
    verb: str,
    notes: Sequence[str],
) -> Iterator[tuple[Prepared, RunFolder]]:
    check_same("configuration", f"{dump_config(experiment)}{out}".encode())
    if resume is None:
        check_place(experiment, out)
    else:
        by_first(lambda: check_trackers(experiment.output.trackers, resume.path))
    with console.stage("reading data and weights") as stage:
        prepared = agreed(lambda: prepare(experiment, resume, progress=stage.amount))
        if verb == "unlearn":
            agreed(lambda: check_targets(prepared))
        # What cannot be measured is refused before anything is written.
        agreed(lambda: (prepared.evaluator, prepared.reference))
    rows, probes = prepared.everything, repr(prepared.task.probes)
    check_same("data or tokenizer", rows.tokens, rows.labels, probes.encode())
    _describe(console, prepared)
    run = new_run(experiment, out) if resume is None else resume
    console.line(f"run folder: {run.path}")
    for note in notes:
        console.warn(note)
    if verb == "unlearn":
        for text in doubts_about(prepared.task):
            console.warn(text)
    with true_status(run, console):
        by_first(lambda: _begin(run, prepared, verb))
        with _tracked(run, prepared, console):
            yield prepared, run


@contextmanager
def true_status(run: RunFolder, console: Console) -> Iterator[None]:
    """Keeps the log and the status: running, and at the end done, or failed and why.

    Nobody else works in it meanwhile.

    Raises:
      CheckpointError: another process does; its status stays as it is.

    """
    held = ExitStack()
    by_first(lambda: held.callback(take(run)))
    with held:
        if is_first():
            console.log_to(run.log)
        by_first(lambda: run.set_status("running"))
        yield from _true_status(run, console)


def _true_status(run: RunFolder, console: Console) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{error}"
        # What ended the run says more than a disk or a store that takes no more notes on it.
        with suppress(OSError):
            console.log(traceback.format_exc())
            if is_first():
                run.set_status(f"failed: {' '.join(reason.split()) or type(error).__name__}")
            console.flush()
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise CheckpointError(
                f"{run.path} cannot be written to: {error.strerror}. Make room, then go on with "
                f"--resume {run.path}"
            ) from error
        raise
    by_first(lambda: run.set_status("done"))
    console.flush()


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""What an operating system says of a disk that is full."""


def doubts_about(task: Task) -> Iterator[str]:
    """What the rows of a task are to be warned of."""
    if not task.retain:
        yield (
            "there are no rows to keep (data.retain): nothing holds the rest of the model in "
            "place, and what else it forgets is not measured."
        )
    kept = {(row.question, row.answer, row.shots) for row in task.retain}
    both = sum((row.question, row.answer, row.shots) in kept for row in task.forget)
    if both:
        yield (
            f"{both} of the {len(task.forget)} rows to forget are among the rows to keep too "
            "(data.retain), which teach them again: take them out there."
        )


def check_place(experiment: Experiment, out: AnyPath | str | None) -> None:
    """Refuses what a new run cannot be written to: trackers, a folder that processes share not."""
    place = to_path(from_first(lambda: str(to_path(out or experiment.output.dir).absolute())))
    by_first(lambda: check_trackers(experiment.output.trackers, place))
    check_shared(place)


def new_run(experiment: Experiment, out: AnyPath | str | None) -> RunFolder:
    """Made by the first process; the others learn its name."""
    parent, name = experiment.output.dir, experiment.name

    def make() -> str:
        run = RunFolder.create(parent, name, config_yaml=dump_config(experiment), exact=out)
        # A path from the working directory means something in one process only.
        return str(run.path.absolute() if several() else run.path)

    return RunFolder(to_path(from_first(make)))


def _begin(run: RunFolder, prepared: Prepared, verb: str) -> None:
    run.write_env({"verb": verb, "seed": prepared.experiment.output.seed})
    write_model(run, prepared.model, prepared.tokenizer)
    note_start(run, prepared)


@contextmanager
def _tracked(run: RunFolder, prepared: Prepared, console: Console) -> Iterator[None]:
    """Lets the run's trackers follow it, in the first process."""
    experiment, trackers = prepared.experiment, prepared.trackers
    if is_first():
        config = experiment.model_dump(mode="json")
        trackers.start(experiment.output.trackers, run.path, config, warn=console.warn)
    try:
        yield
    except BaseException:
        trackers.finish({}, done=False)
        raise
    known = is_first() and run.summary.is_file()
    trackers.finish(read_json(run.summary) if known else {}, done=True)


def _describe(console: Console, prepared: Prepared) -> None:
    """One line on the model and one on the data."""
    config, task = prepared.model.config, prepared.task
    console.line(
        f"model: {config.layers} layers, width {config.width}, vocabulary {config.vocab_size}, "
        f"{prepared.parameters:,} parameters, {config.dtype} · "
        f"{prepared.mesh.size} device(s)"
    )
    console.line(
        f"data: {task.name}, {prepared.rows_in_words}, "
        f"up to {prepared.everything.length} tokens a row"
    )
