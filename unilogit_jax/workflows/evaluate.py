# SPDX-License-Identifier: Apache-2.0
"""Measures models: those of a finished run again, or any model on any benchmark."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from unilogit_jax.config import Experiment, load_config, make_config
from unilogit_jax.errors import CheckpointError, UnilogitError
from unilogit_jax.evaluation import Evaluator
from unilogit_jax.hosts import agreed, by_first
from unilogit_jax.paths import AnyPath, to_path
from unilogit_jax.run import Console, RunFolder, make_console
from unilogit_jax.workflows._beside import origin_of
from unilogit_jax.workflows._checks import check_out
from unilogit_jax.workflows._prepare import Prepared, prepare
from unilogit_jax.workflows._reinforced import WHP, Reinforced, reinforced_of
from unilogit_jax.workflows._results import MODEL, Results, show, write_evaluations
from unilogit_jax.workflows._runs import (
    GOLD,
    TARGET,
    column_of,
    is_run,
    load_stage,
    open_run,
    stages_of,
)


def evaluate(
    source: AnyPath | str,
    *overrides: str,
    whp: AnyPath | str | None = None,
    alpha: float | None = None,
    out: AnyPath | str | None = None,
    console: Console | None = None,
) -> dict[str, dict[str, float]]:
    """Evaluates every model of a run, or one model from anywhere; prints a table.

    Args:
      source: a run folder, or weights: a Hugging Face folder, a URL, a Hub id.
      *overrides: `data.benchmark=tofu` and the like, `key=value` each, laid over the run's
        configuration. A model from elsewhere needs them to know what to measure.
      whp: a reinforced model, one that knows better what is to be forgotten: a run of `finetune` on
        the forget rows, a run whose method made one (its stage ends in .reinforced), or weights.
        The model given, or the one that the run given began with, is then also decoded and scored
        without what the reinforced one prefers: with base - alpha relu(reinforced - base) for
        logits. Both are in memory, and both are run for every token.
      alpha: strength of that, 5 unless given; 0 gives the base.
      out: folder for the items and, where the benchmark has one, the published log. None: a run's
        own eval/ is written anew, unless something else than its own data was measured.
      console: where to print; None prints to standard output.

    Returns:
      Column -> number -> value. Columns are "before", "after", "gold" and the names of rivals, or
      "model" for one from elsewhere; with `whp` there is "whp_decoding" too.

    Raises:
      UnilogitError: the run, the weights, the data or the reference is not usable.

    """
    console = make_console() if console is None else console
    reinforced = reinforced_of(whp, alpha)
    folder = agreed(lambda: is_run(source))
    run, experiment = _opened(source, overrides) if folder else (None, _wanted(source, overrides))
    target = None if out is None else to_path(out)
    if target is None and run is not None and not overrides:
        target = run.eval
    if target is not None:
        check_out(target, folder=True)
    with console.stage("reading data and weights") as stage:
        prepared = agreed(lambda: prepare(experiment, run, progress=stage.amount))
        found = columns_of(run, prepared, reinforced)
    results = Results(reference=prepared.reference)
    for column, (model, params) in found.items():
        evaluator = _evaluator(prepared, model)
        with console.stage(f"evaluating {column}") as progress:
            results.evaluations[column] = evaluator(params, progress=progress.items)
    summaries = results.summaries()
    show(console, experiment.name, results, summaries)
    if target is not None:
        by_first(lambda: write_evaluations(target, results, summaries))
        console.line(f"items and logs: {target}")
    return summaries


def ask(
    run: AnyPath | str,
    questions: Sequence[str],
    *,
    whp: AnyPath | str | None = None,
    alpha: float | None = None,
    console: Console | None = None,
) -> list[dict[str, str]]:
    """Asks the models of a run before and after unlearning (and gold); greedy answers.

    Args:
      run: the run folder.
      questions: in plain words.
      whp: a reinforced model, as in `evaluate`.
      alpha: as in `evaluate`.
      console: where to print; None prints to standard output.

    Returns:
      Per question, column -> answer.

    """
    console = make_console() if console is None else console
    reinforced = reinforced_of(whp, alpha)
    folder, experiment = open_run(run)
    prepared = prepare(experiment, folder)
    answers: list[dict[str, str]] = [{} for _ in questions]
    for column, (model, params) in columns_of(folder, prepared, reinforced).items():
        for k, answer in enumerate(_ask(_evaluator(prepared, model), params, questions)):
            answers[k][column] = answer
    for question, row in zip(questions, answers, strict=True):
        console.title(question)
        width = max(8, *map(len, row))
        for column, answer in row.items():
            console.line(f"  {column:{width}} {answer or '(nothing)'}")
    return answers


def _ask(evaluator: Evaluator, params: object, questions: Sequence[str]) -> list[str]:
    return [answer.text for answer in evaluator.answers(params, evaluator.prompts(questions))]


def _opened(source: AnyPath | str, overrides: Sequence[str]) -> tuple[RunFolder, Experiment]:
    """A run and what it is to be measured on."""
    run, experiment = open_run(source)
    if overrides:
        experiment = agreed(lambda: load_config(run.config, *overrides))
    return run, experiment


def _wanted(source: AnyPath | str, overrides: Sequence[str]) -> Experiment:
    """What a model from elsewhere is to be measured on."""
    if not any(text.startswith("data.") for text in overrides):
        raise UnilogitError(
            f"there is no run folder {source}. If it is a model, say what to measure it on, with "
            "--benchmark tofu --split forget10 --data FOLDER, or data.benchmark=files "
            "data.forget=FILE."
        )
    tree: dict[str, Any] = {"name": str(source), "model": {"weights": str(source)}, "data": {}}
    return agreed(lambda: make_config(tree, *overrides))


def _evaluator(prepared: Prepared, model: Any) -> Evaluator:
    """What measures weights of a model; the task is encoded once for each model."""
    return (prepared if model is prepared.model else replace(prepared, model=model)).evaluator


def columns_of(
    run: RunFolder | None, prepared: Prepared, reinforced: Reinforced | None
) -> dict[str, tuple[Any, Any]]:
    """Column -> model and weights, of every model that the run has, or began with; gold last.

    With a reinforced model, also of both decoded as one.

    Raises:
      UnilogitError: a checkpoint or the reinforced model cannot be used.

    """
    found = {name: (prepared.model, params) for name, params in _weights(run, prepared).items()}
    if reinforced is not None:
        column = MODEL if run is None else column_of(TARGET)
        if run is not None and column not in found:
            raise CheckpointError(
                f"{run.path} has not saved the model that it begins with yet, the base of --whp. "
                f"Go on with it: unilogit unlearn --resume {run.path}"
            )
        found[WHP] = agreed(
            lambda: reinforced.beside(
                *found[column],
                tokenizer=prepared.tokenizer,
                mesh=prepared.mesh,
                run=run,
                family=prepared.experiment.model.family,
            )
        )
    return dict(sorted(found.items(), key=lambda pair: pair[0] == "gold"))


def _weights(run: RunFolder | None, prepared: Prepared) -> Mapping[str, Any]:
    if run is None:
        return {MODEL: prepared.base}
    found: dict[str, Any] = {}
    if prepared.base is not None:
        found[column_of(TARGET)] = prepared.base
    made = {stage: run for stage in stages_of(run)}
    if (origin := agreed(lambda: origin_of(run))) is not None:
        shared = [stage for stage in stages_of(origin) if stage in (TARGET, GOLD)]
        made = dict.fromkeys(shared, origin) | made
    for stage, where in made.items():
        found[column_of(stage)] = load_stage(where, stage, mesh=prepared.mesh)[1]
    return found
