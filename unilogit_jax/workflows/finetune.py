# SPDX-License-Identifier: Apache-2.0
"""Trains the model that is to be unlearned, from scratch or from weights, on all rows."""

from collections.abc import Sequence

from unilogit_jax.config import Experiment, dump_config
from unilogit_jax.hosts import by_first
from unilogit_jax.paths import AnyPath
from unilogit_jax.run import Console, RunFolder, make_console
from unilogit_jax.workflows._results import Results, show, write_all
from unilogit_jax.workflows._runs import TARGET
from unilogit_jax.workflows._session import session
from unilogit_jax.workflows._stages import train_stage


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
    title = f"{experiment.name}: finetune"
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
        with console.stage("evaluating"):
            results = Results({"finetuned": prepared.evaluator(params)})
        show(console, title, results)
        switches = "model.scratch=null eval.gold=false" if experiment.model.scratch else ""
        command = f"unilogit unlearn CONFIG {switches} model.weights={run.path}"
        next_commands = (" ".join(command.split()),)
        by_first(
            lambda: write_all(
                run,
                console,
                results,
                None,
                title=title,
                config_yaml=dump_config(experiment),
                next_commands=next_commands,
                facts={"name": experiment.name, "seed": experiment.output.seed},
            )
        )
        console.line(f"report: {run.report}; next, try:")
        console.line(f"  {next_commands[0]}")
        console.finish()
    return run
