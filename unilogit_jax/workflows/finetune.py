# SPDX-License-Identifier: Apache-2.0
"""Trains the model that is to be unlearned, from scratch or from weights, on all rows."""

from collections.abc import Sequence

from unilogit_jax.config import Experiment
from unilogit_jax.paths import AnyPath
from unilogit_jax.run import Console, RunFolder, make_console
from unilogit_jax.workflows._record import note_weights
from unilogit_jax.workflows._report_words import activation, next_commands, title_of
from unilogit_jax.workflows._results import Results, show
from unilogit_jax.workflows._runs import TARGET
from unilogit_jax.workflows._session import session
from unilogit_jax.workflows._stages import train_stage
from unilogit_jax.workflows.report import write_all


def finetune(
    experiment: Experiment,
    *,
    out: AnyPath | str | None = None,
    resume: RunFolder | None = None,
    console: Console | None = None,
    notes: Sequence[str] = (),
) -> RunFolder:
    """Finetunes on all rows of the task; `unilogit unlearn model.weights=RUN` goes on from there.

    Args:
      experiment: the complete configuration; its `finetune` section sets the training.
      out: this very run folder instead of a new one under `output.dir`.
      resume: go on with this run.
      console: where to print; None prints to standard output.
      notes: warnings to repeat, from reading the configuration.

    Returns:
      The run folder.

    Raises:
      UnilogitError: the data, the weights or the run folder are not usable; nothing was lost.

    """
    console = make_console() if console is None else console
    title = title_of(experiment, finetuned=True)
    console.title(f"unilogit · {title}")
    with session(
        experiment, out=out, resume=resume, console=console, verb="finetune", notes=notes
    ) as (prepared, run):
        params = train_stage(
            prepared,
            TARGET,
            prepared.everything,
            start=prepared.base,
            seed=experiment.output.seed,
            run=run,
            console=console,
        )
        with console.stage("evaluating") as progress:
            results = Results({"finetuned": prepared.evaluator(params, progress=progress.items)})
            note_weights(run, "finetuned", params)
        summaries = results.summaries()
        show(console, title, results, summaries)
        facts = {"name": experiment.name, "seed": experiment.output.seed}
        write_all(run, console, results, summaries, prepared, facts=facts)
        console.line(f"report: {run.report}; next, try:")
        for command in (*activation(), *next_commands(run, experiment, finetuned=True)):
            console.line(f"  {command}")
        console.finish()
    return run
