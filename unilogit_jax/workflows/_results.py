# SPDX-License-Identifier: Apache-2.0
"""Turns evaluations into what a person sees: table, answers, plots, report, summary.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unilogit_jax.evaluation import MEANINGS, SUITES, Evaluation, Item, summarize
from unilogit_jax.paths import AnyPath
from unilogit_jax.run import (
    AnswerRow,
    Console,
    MetricRow,
    MetricsLog,
    Report,
    RunFolder,
    plot_bars,
    plot_curves,
    plot_tradeoff,
    write_json,
    write_report,
)
from unilogit_jax.workflows._stored import write_evaluation
from unilogit_jax.workflows._verdict import Verdict

BARS = (
    "forget_probability",
    "forget_rouge_l",
    "forget_choice",
    "forget_malformed",
    "retain_exact_match",
)
MODEL = "model"
"""The column of a model that is not one of a run's."""
SHOWN = 5
"""Questions shown per group."""

MALFORMED_CAVEAT = (
    "Plain Unilogit drives every answer token to probability 1/V, function words included, so "
    "answers about what was forgotten come out malformed, while gold, which never saw it, answers "
    "fluently."
)
KS_CAVEAT = (
    "The truth-ratio KS distance is a ratio of two small probabilities and cannot see a collapsed "
    "model; never read it without the malformed rate and the retain accuracy."
)


@dataclass
class Results:
    """Evaluations by column ("before", "after", a method's name, "gold")."""

    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    reference: Mapping[str, Any] | None = None
    """A log to measure against where there is no gold."""

    def columns(self) -> list[str]:
        """Columns in the order of a table: gold last."""
        return sorted(self.evaluations, key=lambda name: name == "gold")

    def summaries(self) -> dict[str, dict[str, float]]:
        """The numbers of every column; distances are to gold where there is one."""
        return {
            name: summarize(self.evaluations[name], self._reference(name))
            for name in self.columns()
        }

    def logs(self) -> dict[str, dict[str, Any]]:
        """File name -> log in a published layout, of every column; where the task has a suite."""
        found = {}
        for name, evaluation in self.evaluations.items():
            if evaluation.suite:
                suite = SUITES[evaluation.suite]
                file = suite.file if name == MODEL else f"{name}.{suite.file}"
                found[file] = suite.full_log(evaluation, self._reference(name))
        return found

    def _reference(self, column: str) -> Evaluation | Mapping[str, Any] | None:
        """What a column is measured against; gold itself only against a log from elsewhere."""
        gold = None if column == "gold" else self.evaluations.get("gold")
        return self.reference if gold is None else gold


def metric_rows(summaries: Mapping[str, Mapping[str, float]]) -> list[MetricRow]:
    """One row per number that any column has."""
    rows = []
    for key, meaning in MEANINGS.items():
        values = {name: _format(key, numbers.get(key)) for name, numbers in summaries.items()}
        if any(key in numbers for numbers in summaries.values()):
            rows.append(MetricRow(meaning.title, meaning.explanation, meaning.direction, values))
    return rows


def answer_rows(results: Results) -> list[AnswerRow]:
    """A few questions of each group with every model's answer."""
    columns = results.columns()
    rows = []
    for group in ("forget", "retain"):
        lists = {
            name: _answered(results.evaluations[name], forgotten=group == "forget")
            for name in columns
        }
        total = len(lists[columns[0]])
        for k in _spread(total, SHOWN):
            items: dict[str, Item] = {name: lists[name][k] for name in columns}
            first = items[columns[0]]
            rows.append(
                AnswerRow(
                    group=group,
                    question=first.question or "",
                    truth=first.truth,
                    answers={name: item.answer or "" for name, item in items.items()},
                    malformed={name: item.malformed for name, item in items.items()},
                )
            )
    return rows


def _answered(evaluation: Evaluation, *, forgotten: bool) -> list[Item]:
    """What was asked of the panel "forget" or "retain", or else of all panels on its side."""
    own = evaluation.of("forget" if forgotten else "retain") or [
        item
        for item in evaluation.items
        if forgotten == (item.group.startswith("forget") or item.group == "verbmem")
    ]
    return [item for item in own if item.answer is not None]


def show(console: Console, title: str, results: Results) -> None:
    """Prints the table and the answers."""
    summaries = results.summaries()
    columns = ["metric", "better", *summaries]
    rows = [
        [row.name, row.direction, *(row.values[name] for name in summaries)]
        for row in metric_rows(summaries)
    ]
    console.table(title, columns, rows)
    every = answer_rows(results)
    for group, heading in (("forget", "to be forgotten"), ("retain", "to be kept")):
        answered = [row for row in every if row.group == group]
        if answered:
            console.title(f"Questions {heading}")
        for row in answered:
            console.line(f"  {row.question}")
            console.line(f"    {'truth':8} {row.truth}")
            for name, answer in row.answers.items():
                mark = "   (malformed)" if row.malformed[name] else ""
                console.line(f"    {name:8} {_shorten(answer)}{mark}")


def write_evaluations(folder: AnyPath, results: Results) -> dict[str, dict[str, float]]:
    """Writes the items and logs of every column, and returns the numbers of every column."""
    summaries = results.summaries()
    for name, evaluation in results.evaluations.items():
        write_evaluation(folder / f"{name}.json", evaluation, summaries[name])
    for name, log in results.logs().items():
        write_json(folder / name, log)
    return summaries


def write_all(
    run: RunFolder,
    console: Console,
    results: Results,
    verdict: Verdict | None,
    *,
    title: str,
    config_yaml: str,
    next_commands: Sequence[str],
    facts: Mapping[str, object],
) -> None:
    """Writes eval/, summary.json, plots and report.html."""
    summaries = write_evaluations(run.eval, results)
    flat = {f"{name}.{key}": x for name, numbers in summaries.items() for key, x in numbers.items()}
    passed = {} if verdict is None or verdict.passed is None else {"passed": verdict.passed}
    seconds = {f"seconds.{name}": round(s, 2) for name, s in console.stage_times.items()}
    write_json(run.summary, {**facts, **passed, **flat, **seconds})
    write_report(
        run.report,
        Report(
            title=title,
            verdict=verdict.text if verdict else "",
            passed=verdict.passed if verdict else None,
            columns=results.columns(),
            metric_rows=metric_rows(summaries),
            answers=answer_rows(results),
            plots=_plots(run, summaries),
            stage_times=console.stage_times,
            files=FILES,
            next_commands=next_commands,
            config_yaml=config_yaml,
            caveats=_caveats(summaries),
            warnings=console.warnings,
        ),
    )


FILES = (
    ("config.yaml", "the complete configuration; running it again repeats the run"),
    ("metrics.jsonl", "one line per logged update"),
    ("summary.json", "every number of the table"),
    ("eval/", "every question with its scores and answers, per model"),
    ("checkpoints/", "weights and optimizer per stage; what --resume reads"),
    ("ledger.json", "the requests served: when, how many rows, their digest; not the rows"),
    ("log.txt", "everything that was printed"),
    ("env.json", "versions, command line, times"),
)


def _caveats(summaries: Mapping[str, Mapping[str, float]]) -> list[str]:
    caveats = []
    if any(numbers.get("forget_malformed", 0) > 0.5 for numbers in summaries.values()):
        caveats.append(MALFORMED_CAVEAT)
    if any("forget_ks_distance" in numbers for numbers in summaries.values()):
        caveats.append(KS_CAVEAT)
    return caveats


def _plots(
    run: RunFolder, summaries: Mapping[str, Mapping[str, float]]
) -> list[tuple[str, AnyPath]]:
    bars = {
        MEANINGS[key].title: {name: n[key] for name, n in summaries.items() if key in n}
        for key in BARS
        if any(key in n for n in summaries.values())
    }
    directions = {MEANINGS[key].title: MEANINGS[key].direction for key in BARS}
    made = [("Before and after", run.plots / "bars.png"), ("Training", run.plots / "curves.png")]
    plot_bars(made[0][1], bars, directions)
    plot_curves(made[1][1], MetricsLog.read(run.metrics))
    points = {
        name: (n["forget_probability"], n["retain_exact_match"])
        for name, n in summaries.items()
        if "forget_probability" in n and "retain_exact_match" in n
    }
    if len(points) > 1:
        made.append(("Forgetting against keeping", run.plots / "tradeoff.png"))
        plot_tradeoff(
            made[-1][1], {k: v for k, v in points.items() if k != "gold"}, points.get("gold")
        )
    return made


def _format(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1e}" if key.endswith("_p") and value < 0.01 else f"{value:.3f}"


def _shorten(text: str, limit: int = 110) -> str:
    text = " ".join(text.split()) or "(nothing)"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _spread(total: int, count: int) -> list[int]:
    """Up to `count` positions spread evenly over `total`."""
    return [k * total // min(count, total) for k in range(min(count, total))]
