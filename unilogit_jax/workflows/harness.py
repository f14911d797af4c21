# SPDX-License-Identifier: Apache-2.0
"""Tasks of lm-evaluation-harness, answered by the models of a run or by any other model."""

from collections.abc import Mapping, Sequence
from typing import Any

from unilogit_jax.config import Experiment
from unilogit_jax.errors import ConfigError, DataError, suggest
from unilogit_jax.hosts import agreed, by_first
from unilogit_jax.paths import AnyPath, to_path
from unilogit_jax.run import Console, RunFolder, make_console, write_json
from unilogit_jax.sharding import make_mesh
from unilogit_jax.workflows._checks import check_out
from unilogit_jax.workflows._prepare import prepare
from unilogit_jax.workflows._reinforced import WHP, Reinforced, reinforced_of
from unilogit_jax.workflows._results import MODEL
from unilogit_jax.workflows._runs import is_run, open_run
from unilogit_jax.workflows.evaluate import columns_of
from unilogit_jax.workflows.export import load_pretrained

FILE = "lm_eval.json"
Results = dict[str, dict[str, dict[str, Any]]]
"""Column -> task -> what the harness says of it."""


def evaluate_tasks(
    source: AnyPath | str,
    tasks: Sequence[str],
    *,
    whp: AnyPath | str | None = None,
    alpha: float | None = None,
    include: AnyPath | str | None = None,
    fewshot: int | None = None,
    limit: int | None = None,
    chat: bool = False,
    batch_size: int = 64,
    out: AnyPath | str | None = None,
    console: Console | None = None,
) -> Results:
    """Scores models on tasks of lm-evaluation-harness, on their mesh; prints a table.

    Args:
      source: a run, all of whose models are scored; or a Hugging Face folder, a URL, a Hub id.
      tasks: names of tasks or groups, such as mmlu or wmdp_bio.
      whp: a reinforced model, as in `evaluate`.
      alpha: as in `evaluate`.
      include: folder of further tasks in YAML files.
      fewshot: examples shown before each question; None: as the task says.
      limit: only so many items of each task.
      chat: put prompts into the tokenizer's chat template.
      batch_size: rows per forward pass.
      out: folder for lm_eval.json; None: eval/ of a run, nothing for other models.
      console: where to print; None prints to standard output.

    Returns:
      Column -> task -> the harness's numbers, "acc,none" for example.

    Raises:
      UnilogitError: the extra is missing, a task is unknown, or the model cannot be loaded.

    """
    console = make_console() if console is None else console
    reinforced = reinforced_of(whp, alpha)
    manager = agreed(lambda: _manager(tasks, include))
    opened = open_run(source) if agreed(lambda: is_run(source)) else None
    folder = to_path(out) if out is not None else opened[0].eval if opened else None
    if folder is not None:
        check_out(folder, folder=True)
    with console.stage("reading weights"):
        tokenizer, columns, mesh = _models(source, opened, reinforced)
    from lm_eval.evaluator import simple_evaluate

    from unilogit_jax.evaluation.harness import HarnessModel

    results: Results = {}
    for column, (model, params) in columns.items():
        with console.stage(f"evaluating {column}") as stage:
            options = {"mesh": mesh, "batch_size": batch_size, "progress": stage.items}
            answered: Any = simple_evaluate(
                HarnessModel(model, params, tokenizer, **options),
                tasks=list(tasks),
                task_manager=manager,
                num_fewshot=fewshot,
                limit=limit,
                apply_chat_template=chat,
                log_samples=False,
                bootstrap_iters=0,
            )
        results[column] = answered["results"]
    _show(console, results)
    if folder is not None:
        by_first(lambda: write_json(folder / FILE, results))
        console.line(f"results: {folder / FILE}")
    return results


def _manager(tasks: Sequence[str], include: AnyPath | str | None) -> Any:
    """What knows the tasks; refuses unknown ones before any weights are read."""
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise ConfigError("--lm-eval needs lm-evaluation-harness: pip install lm-eval.") from error
    if include is not None and not to_path(include).is_dir():
        raise DataError(f"there is no folder {include}: --lm-eval-dir holds YAML files.")
    manager = TaskManager(include_path=None if include is None else str(include))
    for name in tasks:
        if not manager.match_tasks([name]):
            near = suggest(name, manager.all_tasks)
            raise ConfigError(
                f"lm-evaluation-harness knows no task '{name}'.{near} "
                "'lm-eval ls tasks' lists them."
            )
    return manager


def _models(
    source: AnyPath | str,
    opened: tuple[RunFolder, Experiment] | None,
    reinforced: Reinforced | None,
) -> tuple[Any, Mapping[str, tuple[Any, Any]], Any]:
    """Tokenizer, column -> model and weights, mesh."""
    if opened is not None:
        run, experiment = opened
        prepared = agreed(lambda: prepare(experiment, run))
        return prepared.tokenizer, columns_of(run, prepared, reinforced), prepared.mesh
    mesh = make_mesh()
    model, params, tokenizer = load_pretrained(source, mesh=mesh)
    found: dict[str, tuple[Any, Any]] = {MODEL: (model, params)}
    if reinforced is not None:
        found[WHP] = reinforced.beside(model, params, tokenizer=tokenizer, mesh=mesh)
    return tokenizer, found, mesh


def _show(console: Console, results: Results) -> None:
    columns = list(results)
    numbers: dict[tuple[str, str], dict[str, str]] = {}
    for column, tasks in results.items():
        for task, values in tasks.items():
            for key, value in values.items():
                metric = key.removesuffix(",none")
                if isinstance(value, float) and "_stderr" not in key:
                    numbers.setdefault((task, metric), {})[column] = f"{value:.4f}"
    rows = [
        [task, metric, *(found.get(column, "-") for column in columns)]
        for (task, metric), found in numbers.items()
    ]
    console.table("lm-evaluation-harness", ["task", "number", *columns], rows)
