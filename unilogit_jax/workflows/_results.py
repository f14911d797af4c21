# SPDX-License-Identifier: Apache-2.0
"""Turns evaluations into what a person sees: the table, a few answers, files of all of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from unilogit_jax.evaluation import MEANINGS, SUITES, Evaluation, Item, summarize
from unilogit_jax.metrics import Interval
from unilogit_jax.paths import AnyPath
from unilogit_jax.run import AnswerRow, Console, MetricRow, write_json
from unilogit_jax.workflows._stored import write_evaluation

MODEL = "model"
"""The column of a model that is not one of a run's."""
Group = Literal["forget", "retain"]
SHOWN: Mapping[Group, int] = {"forget": 5, "retain": 5}
"""Questions shown of each group, on the console."""


Summaries = Mapping[str, Mapping[str, float]]
"""Column -> number -> value."""


@dataclass
class Results:
    """Evaluations by column ("before", "after", a method's name, "gold")."""

    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    reference: Mapping[str, Any] | None = None
    """A log to measure against where there is no gold."""

    def columns(self) -> list[str]:
        """Columns in the order of a table: gold last."""
        return sorted(self.evaluations, key=lambda name: name == "gold")

    def summary(self, column: str) -> dict[str, float]:
        """The numbers of a column; distances are to gold where there is one."""
        return summarize(self.evaluations[column], self._reference(column))

    def summaries(self) -> dict[str, dict[str, float]]:
        """Those of every column; of a whole suite it takes a while, so ask once."""
        return {name: self.summary(name) for name in self.columns()}

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


def metric_rows(
    summaries: Summaries,
    intervals: Mapping[str, Mapping[str, Interval]] | None = None,
) -> list[MetricRow]:
    """One row per number that any column has; with intervals of those that have one."""
    rows = []
    for key, meaning in MEANINGS.items():
        values = {name: _format(key, numbers.get(key)) for name, numbers in summaries.items()}
        between = {
            name: f"[{_format(key, found[key].low)}, {_format(key, found[key].high)}]"
            for name, found in (intervals or {}).items()
            if key in found
        }
        if any(key in numbers for numbers in summaries.values()):
            told = meaning.title, meaning.explanation, meaning.direction
            rows.append(MetricRow(*told, values, between))
    return rows


def answer_rows(results: Results, shown: Mapping[Group, int] = SHOWN) -> list[AnswerRow]:
    """A few questions of each group with the answer of every model that was asked them."""
    columns = results.columns()
    first = results.evaluations[columns[0]].asked()
    # Those that were measured on something else later have other questions.
    columns = [name for name in columns if results.evaluations[name].asked() == first]
    rows = []
    for group, count in shown.items():
        lists = {
            name: _answered(results.evaluations[name], forgotten=group == "forget")
            for name in columns
        }
        total = len(lists[columns[0]])
        for k in _spread(total, count):
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


def show(console: Console, title: str, results: Results, summaries: Summaries) -> None:
    """Prints the table of the results' summaries, and some answers."""
    columns = ["metric", "better", *summaries]
    rows = [
        [row.name, row.direction, *(row.values[name] for name in summaries)]
        for row in metric_rows(summaries)
    ]
    console.table(title, columns, rows)
    every = answer_rows(results)
    width = max(8, *map(len, summaries))
    for group, heading in (("forget", "to be forgotten"), ("retain", "to be kept")):
        answered = [row for row in every if row.group == group]
        if answered:
            console.title(f"Questions {heading}")
        for row in answered:
            console.line(f"  {row.question}")
            console.line(f"    {'truth':{width}} {row.truth}")
            for name, answer in row.answers.items():
                mark = "   (malformed)" if row.malformed[name] else ""
                console.line(f"    {name:{width}} {_shorten(answer)}{mark}")


def write_evaluations(folder: AnyPath, results: Results, summaries: Summaries) -> None:
    """Writes the items, numbers and logs of every column."""
    for name, evaluation in results.evaluations.items():
        write_evaluation(folder / f"{name}.json", evaluation, summaries[name])
    for name, log in results.logs().items():
        write_json(folder / name, log)


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
