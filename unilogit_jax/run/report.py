# SPDX-License-Identifier: Apache-2.0
"""report.html: one self-contained page that shows a run to a person."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from unilogit_jax.paths import AnyPath
from unilogit_jax.run.environment import package_version
from unilogit_jax.run.files import write_text
from unilogit_jax.run.text import clean, format_seconds

_WANTED = {
    "lower": "↓ lower is better",
    "higher": "↑ higher is better",
    "like gold": "≈ like gold is best",
}


@dataclass(frozen=True)
class MetricRow:
    """One metric: its name, what it says in plain words, which way is good, a text per column."""

    name: str
    explanation: str
    direction: Literal["lower", "higher", "like gold"]
    values: Mapping[str, str]


@dataclass(frozen=True)
class AnswerRow:
    """One question, the true answer, and what each model state answered."""

    group: Literal["forget", "retain"]
    question: str
    truth: str
    answers: Mapping[str, str]
    malformed: Mapping[str, bool] = field(default_factory=dict)
    """Columns whose answer does not have the form that such an answer has."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that the page shows; texts are escaped, so they may hold anything."""

    title: str
    verdict: str
    """One paragraph: what came out."""
    passed: bool | None = None
    """Whether the run met its criteria; None where there are none."""
    columns: Sequence[str] = ()
    """Model states in order: before, after, gold, further methods."""
    metric_rows: Sequence[MetricRow] = ()
    answers: Sequence[AnswerRow] = ()
    plots: Sequence[tuple[str, AnyPath]] = ()
    stage_times: Mapping[str, float] = field(default_factory=dict)
    files: Sequence[tuple[str, str]] = ()
    next_commands: Sequence[str] = ()
    config_yaml: str = ""
    caveats: Sequence[str] = ()
    warnings: Sequence[str] = ()


def write_report(path: AnyPath, report: Report) -> None:
    """Writes the report as one HTML file: pictures inlined, no scripts, nothing loaded.

    Args:
      path: the file; it replaces an older one atomically.
      report: what to show.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["visible"] = clean
    template = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    groups = {g: [a for a in report.answers if a.group == g] for g in ("forget", "retain")}
    page = environment.from_string(template).render(
        report=report,
        groups=groups,
        wanted=_WANTED,
        pictures=[(title, _inline(picture)) for title, picture in report.plots],
        times=_time_rows(report.stage_times),
        version=package_version(),
    )
    write_text(path, page)


def _inline(picture: AnyPath) -> str | None:
    """The PNG as a data address, or None where the file is missing."""
    try:
        data = picture.read_bytes()
    except OSError:
        return None
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def _time_rows(stage_times: Mapping[str, float]) -> list[tuple[str, str, float]]:
    """Name, duration in words, percent of the whole; the whole comes last."""
    total = sum(stage_times.values())
    rows = [
        (name, format_seconds(seconds), 100 * seconds / (total or 1.0))
        for name, seconds in stage_times.items()
    ]
    return [*rows, ("all", format_seconds(total), 100.0)] if rows else []
