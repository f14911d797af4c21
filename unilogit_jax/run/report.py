# SPDX-License-Identifier: Apache-2.0
"""report.html: one self-contained page that shows a run to a person."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from unilogit_jax.errors import clean
from unilogit_jax.paths import AnyPath
from unilogit_jax.run.environment import package_version
from unilogit_jax.run.files import write_text
from unilogit_jax.run.text import WANTED, format_seconds


@dataclass(frozen=True)
class MetricRow:
    """One metric: its name, what it says in plain words, which way is good, a text per column."""

    name: str
    explanation: str
    direction: Literal["lower", "higher", "like gold"]
    values: Mapping[str, str]
    intervals: Mapping[str, str] = field(default_factory=dict)
    """Of the columns whose number has one."""


@dataclass(frozen=True)
class AnswerRow:
    """One question, the true answer, and what each model state answered."""

    group: Literal["forget", "retain"]
    question: str
    truth: str
    answers: Mapping[str, str]
    malformed: Mapping[str, bool] = field(default_factory=dict)
    """Columns whose answer does not have the form that such an answer has."""


@dataclass(frozen=True)
class AttackRow:
    """One number under an attack: what it is, how the attack was set, a text per column."""

    attack: str
    setting: str
    title: str
    wanted: str
    """Which way is good: lower, higher, like gold, or in other words."""
    values: Mapping[str, str]


@dataclass(frozen=True)
class Facts:
    """A table of names and texts under a heading."""

    title: str
    rows: Sequence[tuple[str, str]]
    lead: str = ""
    """A sentence above."""


@dataclass(frozen=True)
class Picture:
    """A PNG with its heading, and what it shows for those who do not see it."""

    title: str
    path: AnyPath
    alt: str


@dataclass(frozen=True)
class StageCost:
    """A stage of the run: seconds, and where it trained something, what that took."""

    name: str
    seconds: float | None
    work: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that the page shows; texts are escaped, so they may hold anything."""

    title: str
    verdict: str
    """One paragraph: what came out."""
    dated: str = ""
    """When the run was made, and when the page."""
    request: Sequence[Facts] = ()
    """What was asked for, of which model, by which method."""
    passed: bool | None = None
    """Whether the run met its criteria; None where there are none."""
    columns: Sequence[str] = ()
    """Model states in order: before, after, gold, further methods."""
    metric_rows: Sequence[MetricRow] = ()
    metric_note: str = ""
    """What the intervals are."""
    attack_rows: Sequence[AttackRow] = ()
    attack_columns: Sequence[str] = ()
    attack_settings: str = ""
    answers: Sequence[AnswerRow] = ()
    answers_note: str = ""
    """How they were chosen."""
    pictures: Sequence[Picture] = ()
    stages: Sequence[StageCost] = ()
    cost: Facts | None = None
    provenance: Sequence[Facts] = ()
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
        wanted=WANTED,
        pictures=[(picture, _inline(picture.path)) for picture in report.pictures],
        times=_time_rows(report.stages),
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


def _time_rows(stages: Sequence[StageCost]) -> list[tuple[str, str, float, str]]:
    """Name, duration in words, percent of the whole, work; the whole comes last."""
    total = sum(stage.seconds or 0.0 for stage in stages)
    rows = [
        (
            stage.name,
            "–" if stage.seconds is None else format_seconds(stage.seconds),
            100 * (stage.seconds or 0.0) / (total or 1.0),
            stage.work,
        )
        for stage in stages
    ]
    return [*rows, ("all", format_seconds(total), 100.0, "")] if rows else []
