# SPDX-License-Identifier: Apache-2.0
"""report.html of a run, made from its folder alone: again after it was evaluated or attacked."""

from collections.abc import Mapping
from datetime import datetime

import numpy as np

from unilogit_jax import metrics
from unilogit_jax.config import Experiment, method_label
from unilogit_jax.errors import CheckpointError
from unilogit_jax.evaluation import Evaluation, forget_truth_ratios, item_values
from unilogit_jax.hosts import by_first
from unilogit_jax.paths import AnyPath
from unilogit_jax.run import (
    Console,
    Report,
    RunFolder,
    make_console,
    write_json,
    write_report,
)
from unilogit_jax.workflows._prepare import Prepared
from unilogit_jax.workflows._record import note_end
from unilogit_jax.workflows._report_facts import RunFacts, in_order
from unilogit_jax.workflows._report_pictures import draw_pictures
from unilogit_jax.workflows._report_words import (
    FILES,
    caveats_of,
    metric_note,
    next_commands,
    title_of,
    verdict_of,
)
from unilogit_jax.workflows._results import (
    Group,
    Results,
    Summaries,
    answer_rows,
    metric_rows,
    write_evaluations,
)
from unilogit_jax.workflows._robustness import read_robustness
from unilogit_jax.workflows._runs import open_run
from unilogit_jax.workflows._stored import read_evaluations

QUOTED: Mapping[Group, int] = {"forget": 14, "retain": 6}
"""Questions of each group whose answers are shown."""


def report(
    run: AnyPath | str, *, answers: bool = True, console: Console | None = None
) -> RunFolder:
    """Makes report.html of a run anew, and its pictures.

    Everything is read from the run folder; no weights are, and nothing is computed on a device.

    Args:
      run: the run folder.
      answers: whether to quote questions and answers, those to be forgotten among them.
      console: where to print; None prints to standard output.

    Returns:
      The run folder.

    Raises:
      CheckpointError: the folder is no run, or has measured nothing yet.

    """
    console = make_console() if console is None else console
    folder, experiment = open_run(run)
    by_first(lambda: make_report(folder, experiment, answers=answers))
    console.line(f"report: {folder.report}")
    return folder


def write_all(
    run: RunFolder,
    console: Console,
    results: Results,
    summaries: Summaries,
    prepared: Prepared,
    *,
    facts: Mapping[str, object],
) -> None:
    """Writes eval/ and summary.json, and then the report as `report` does; all processes call it.

    Args:
      run: the run.
      console: whose warnings and seconds are kept.
      results: what was measured.
      summaries: its numbers.
      prepared: the run's experiment.
      facts: what else to put into summary.json.

    """

    def write() -> None:
        write_evaluations(run.eval, results, summaries)
        flat = {f"{name}.{k}": x for name, numbers in summaries.items() for k, x in numbers.items()}
        verdict = verdict_of(summaries)
        passed = {} if verdict is None or verdict.passed is None else {"passed": verdict.passed}
        seconds = {f"seconds.{name}": round(s, 2) for name, s in console.stage_times.items()}
        write_json(run.summary, {**facts, **passed, **flat, **seconds})
        note_end(run, prepared, console)
        make_report(run, prepared.experiment)

    with console.stage("writing the report"):
        by_first(write)


def make_report(run: RunFolder, experiment: Experiment, *, answers: bool = True) -> None:
    """Writes report.html; for the first process only.

    Raises:
      CheckpointError: the run has measured nothing yet.

    """
    found = read_evaluations(run.eval)
    if not found:
        raise CheckpointError(
            f"{run.path} has measured no model yet, there is nothing to report: its status is "
            f"'{run.status}'. Go on with it: unilogit unlearn --resume {run.path}"
        )
    facts, robustness = RunFacts(run, experiment), read_robustness(run.path)
    rivals = [name for rival in experiment.compare if (name := method_label(rival)) in found]
    stored = {name: found[name] for name in in_order([*rivals, *sorted(set(found) - {*rivals})])}
    summaries = {name: one.summary for name, one in stored.items()}
    evaluations = {name: one.evaluation for name, one in stored.items()}
    values = {name: item_values(evaluation) for name, evaluation in evaluations.items()}
    verdict = verdict_of(summaries)
    quoted = answer_rows(Results(evaluations), QUOTED) if answers else []
    write_report(
        run.report,
        Report(
            title=title_of(experiment, finetuned=facts.finetuned),
            verdict=verdict.text.replace("->", "→") if verdict else "",
            passed=verdict.passed if verdict else None,
            dated=_dated(facts),
            request=facts.request(),
            columns=list(stored),
            metric_rows=metric_rows(summaries, _intervals(evaluations, values)),
            metric_note=metric_note(values),
            attack_rows=robustness.rows,
            attack_columns=robustness.columns,
            attack_settings=robustness.settings,
            pictures=draw_pictures(run, summaries, evaluations, values, robustness.curves),
            answers=quoted,
            answers_note="Spread evenly over all that were asked; nobody picked them.",
            stages=facts.stages(),
            cost=facts.cost(),
            provenance=facts.provenance(),
            files=[pair for pair in FILES if _is_there(run.path / pair[0].rstrip("/"))],
            next_commands=next_commands(run, experiment, finetuned=facts.finetuned),
            config_yaml=run.config.read_text(encoding="utf-8"),
            caveats=caveats_of(run, summaries, quoted=bool(quoted)),
            warnings=facts.record.get("end", {}).get("warnings", ()),
        ),
    )


def _intervals(
    evaluations: Mapping[str, Evaluation], values: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, dict[str, metrics.Interval]]:
    """Column -> number -> bootstrap interval, of numbers whose items are known."""
    found = {
        name: {
            key: metrics.mean_interval(x)
            for key, x in ones.items()
            if np.isfinite(x).all() and np.ptp(x) > 0
        }
        for name, ones in values.items()
    }
    gold = forget_truth_ratios(evaluations["gold"]) if "gold" in evaluations else np.zeros(0)
    for name, evaluation in evaluations.items():
        ratios = forget_truth_ratios(evaluation)
        if name != "gold" and len(gold) and len(ratios) and np.isfinite([*ratios, *gold]).all():
            found[name]["forget_ks_distance"] = metrics.ks_interval(ratios, gold)
    return found


def _is_there(path: AnyPath) -> bool:
    return path.is_file() or path.is_dir()


def _dated(facts: RunFacts) -> str:
    begun = facts.env.get("started")
    run = f"Run of {datetime.fromisoformat(begun):%Y-%m-%d %H:%M %Z}. " if begun else ""
    return f"{run}This page was made on {datetime.now().astimezone():%Y-%m-%d %H:%M %Z}."
