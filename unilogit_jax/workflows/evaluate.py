# SPDX-License-Identifier: Apache-2.0
"""Measures the models of a finished run again, and asks them questions of your own."""

from collections.abc import Mapping, Sequence

from unilogit_jax.evaluation import Evaluator
from unilogit_jax.hosts import agreed, by_first
from unilogit_jax.paths import AnyPath
from unilogit_jax.run import Console, RunFolder, make_console
from unilogit_jax.workflows._prepare import Prepared, prepare
from unilogit_jax.workflows._results import Results, show, write_evaluations
from unilogit_jax.workflows._runs import column_of, load_stage, open_run, stages_of


def evaluate(run: AnyPath | str, *, console: Console | None = None) -> dict[str, dict[str, float]]:
    """Evaluates every model of a run on the run's own task; prints the table, rewrites eval/.

    Args:
      run: the run folder.
      console: where to print; None prints to standard output.

    Returns:
      Column ("before", "after", "gold", a rival's name) -> number -> value.

    Raises:
      CheckpointError: the folder is no run, or a checkpoint is damaged.

    """
    console = make_console() if console is None else console
    folder, experiment = open_run(run)
    prepared = agreed(lambda: prepare(experiment, folder))
    evaluator = prepared.evaluator()
    results = Results()
    for column, params in _models(folder, prepared).items():
        with console.stage(f"evaluating {column}"):
            results.evaluations[column] = evaluator(params)
    show(console, prepared.experiment.name, results)
    by_first(lambda: write_evaluations(folder, results))
    return results.summaries()


def ask(
    run: AnyPath | str, questions: Sequence[str], *, console: Console | None = None
) -> list[dict[str, str]]:
    """Asks the models of a run before and after unlearning (and gold); greedy answers.

    Args:
      run: the run folder.
      questions: in plain words.
      console: where to print; None prints to standard output.

    Returns:
      Per question, column -> answer.

    """
    console = make_console() if console is None else console
    folder, experiment = open_run(run)
    prepared = prepare(experiment, folder)
    evaluator = prepared.evaluator()
    answers: list[dict[str, str]] = [{} for _ in questions]
    for column, params in _models(folder, prepared).items():
        for k, answer in enumerate(_ask(evaluator, params, questions)):
            answers[k][column] = answer
    for question, row in zip(questions, answers, strict=True):
        console.title(question)
        for column, answer in row.items():
            console.line(f"  {column:8} {answer or '(nothing)'}")
    return answers


def _ask(evaluator: Evaluator, params: object, questions: Sequence[str]) -> list[str]:
    return [text for text, _ in evaluator.answers(params, evaluator.prompts(questions))]


def _models(run: RunFolder, prepared: Prepared) -> Mapping[str, object]:
    """Column -> weights of every model that the run has, or began from."""
    found: dict[str, object] = {}
    if prepared.base is not None:
        found["before"] = prepared.base
    for stage in stages_of(run):
        found[column_of(stage)] = load_stage(run, stage, mesh=prepared.mesh)[1]
    return dict(sorted(found.items(), key=lambda pair: pair[0] == "gold"))
