# SPDX-License-Identifier: Apache-2.0
"""The main job: remove the forget rows from a model; show what it knew before and knows after."""

from collections.abc import Sequence
from typing import Any

from unilogit_jax.config import Experiment, method_label
from unilogit_jax.evaluation import Evaluator
from unilogit_jax.hosts import agreed, by_first
from unilogit_jax.paths import AnyPath
from unilogit_jax.run import Console, RunFolder, make_console
from unilogit_jax.run.ledger import write_ledger
from unilogit_jax.workflows._beside import measured, note_origin, start_of
from unilogit_jax.workflows._continue import served_before
from unilogit_jax.workflows._prepare import Prepared
from unilogit_jax.workflows._record import note_weights
from unilogit_jax.workflows._report_words import activation, next_commands, title_of, verdict_of
from unilogit_jax.workflows._results import Results, show
from unilogit_jax.workflows._runs import GOLD, TARGET, UNLEARN
from unilogit_jax.workflows._session import session
from unilogit_jax.workflows._stages import train_stage, unlearn_stage
from unilogit_jax.workflows.report import write_all


def unlearn(
    experiment: Experiment,
    *,
    out: AnyPath | str | None = None,
    resume: RunFolder | None = None,
    console: Console | None = None,
    notes: Sequence[str] = (),
    beside: RunFolder | None = None,
) -> RunFolder:
    """Unlearns as the experiment says and evaluates before and after.

    A model made from scratch is trained on forget and retain rows first; with `eval.gold` a second
    one is trained on the retain rows alone, to show what forgetting should look like.

    Args:
      experiment: the complete configuration.
      out: this very run folder instead of a new one under `output.dir`.
      resume: go on with this run.
      console: where to print; None prints to standard output.
      notes: warnings to repeat, from reading the configuration.
      beside: a finished run that began with the same models: these and their numbers are taken from
        there.

    Returns:
      The run folder: summary.json, report.html, checkpoints and the rest.

    Raises:
      UnilogitError: the data, the weights or the run folder are not usable; nothing was lost.

    """
    console = make_console() if console is None else console
    method = experiment.method
    title = title_of(experiment, finetuned=False)
    console.title(f"unilogit · unlearn · {title}")
    with session(
        experiment, out=out, resume=resume, console=console, verb="unlearn", notes=notes
    ) as (prepared, run):
        results = Results(reference=prepared.reference)
        evaluator = prepared.evaluator
        if beside is None:
            start = _start_and_gold(prepared, evaluator, results, run, console)
        else:
            start, known = prepared.base, measured(beside)
            start = start_of(beside, mesh=prepared.mesh) if start is None else start
            results.evaluations |= known
            by_first(lambda: note_origin(run, beside))
            note_weights(run, "before", start)
        before = results.summary("before")
        labels = [(rival, method_label(rival)) for rival in experiment.compare]
        rivals = [(rival, f"{UNLEARN}-{label}", label) for rival, label in labels]
        stages = [(method, UNLEARN, "after"), *rivals]
        for chosen, stage, column in stages:
            params = unlearn_stage(
                prepared,
                stage,
                chosen,
                start=start,
                evaluator=evaluator,
                before=before,
                run=run,
                console=console,
                last=stage == stages[-1][1],
            )
            with console.stage(f"evaluating {column}") as progress:
                results.evaluations[column] = evaluator(params, progress=progress.items)
                note_weights(run, column, params)
        earlier = agreed(lambda: served_before(experiment))
        by_first(lambda: _enter(run, prepared, earlier))
        _finish(run, console, results, title=title, prepared=prepared)
    return run


def _enter(run: RunFolder, prepared: Prepared, earlier: list[dict[str, object]]) -> None:
    """Notes the request in the run's ledger."""
    experiment = prepared.experiment
    write_ledger(
        run.path,
        [(row.question, row.answer) for row in prepared.task.forget],
        earlier=earlier,
        name=experiment.name,
        forget=experiment.data.forget or prepared.task.name,
        method=method_label(experiment.method),
        run=str(run.path),
    )


def _finish(
    run: RunFolder, console: Console, results: Results, *, title: str, prepared: Prepared
) -> None:
    """Prints the table, says the verdict, writes the report."""
    experiment, summaries = prepared.experiment, results.summaries()
    show(console, title, results, summaries)
    facts = {
        "name": experiment.name,
        "method": method_label(experiment.method),
        "seed": experiment.output.seed,
    }
    write_all(run, console, results, summaries, prepared, facts=facts)
    console.title(str(verdict_of(summaries)))
    console.line(f"report: {run.report}")
    console.line(f"everything else is in {run.path}; next, try:")
    for command in (*activation(), *next_commands(run, experiment, finetuned=False)):
        console.line(f"  {command}")
    console.finish()


def _start_and_gold(
    prepared: Prepared,
    evaluator: Evaluator,
    results: Results,
    run: RunFolder,
    console: Console,
) -> Any:
    """The weights to unlearn from, evaluated; the gold model too where it is asked for."""
    experiment, seed = prepared.experiment, prepared.experiment.output.seed
    start = prepared.base
    if start is None:
        rows = prepared.everything
        start = train_stage(prepared, TARGET, rows, start=None, seed=seed, run=run, console=console)
    with console.stage("evaluating before") as progress:
        results.evaluations["before"] = evaluator(start, progress=progress.items)
        note_weights(run, "before", start)
    if experiment.eval.gold and prepared.retain is not None:
        # Another seed: gold shares nothing with the target but data and recipe.
        gold = train_stage(
            prepared, GOLD, prepared.retain, start=None, seed=seed + 1, run=run, console=console
        )
        with console.stage("evaluating gold") as progress:
            results.evaluations["gold"] = evaluator(gold, progress=progress.items)
            note_weights(run, "gold", gold)
    return start
