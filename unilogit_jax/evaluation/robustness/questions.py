# SPDX-License-Identifier: Apache-2.0
"""Which items of a task say what a model knows of the forgotten and of what is to be kept."""

from collections.abc import Sequence
from dataclasses import replace

from unilogit_jax.data import Probe, Task


def is_asked(probe: Probe) -> bool:
    """Whether it is a question, as opposed to plain text and to the continuation of some."""
    return probe.question is not None and not probe.literal


def forget_probes(task: Task) -> tuple[Probe, ...]:
    """What is measured of the rows to forget: the panel `forget`, or those that begin so.

    Questions if there are any, else plain texts. Panels whose answers are not scored are left out.
    """
    return _on_side(task, "forget")


def question_task(task: Task, forget: Sequence[Probe], *, retain: bool) -> Task:
    """A task of some probes as its panel `forget`, and if wanted of what it asks of rows to keep.

    It has no suite: a suite's numbers need all panels.
    """
    panels = {panel.name: panel for panel in task.panels}
    sides = {"forget": tuple(forget), "retain": _on_side(task, "retain") if retain else ()}
    return replace(
        task,
        forget=(),
        retain=(),
        probes=tuple(replace(p, group=name) for name, own in sides.items() for p in own),
        panels=tuple(
            replace(panels[own[0].group], name=name) for name, own in sides.items() if own
        ),
        suite="",
    )


def other_words(task: Task) -> tuple[Probe, ...]:
    """Forget questions in words that no row to forget has, whose answers are those of rows.

    Example:
      >>> from unilogit_jax.benchmarks.toy import make_task
      >>> len(other_words(make_task()))
      32

    """
    questions = {row.question for row in task.forget}
    answers = {row.answer for row in task.forget}
    return tuple(
        probe
        for probe in forget_probes(task)
        if is_asked(probe) and probe.question not in questions and probe.answer in answers
    )


def _on_side(task: Task, name: str) -> tuple[Probe, ...]:
    """The probes of the panel of this name, or of those whose names begin with it."""
    scored = {panel.name for panel in task.panels if panel.scored}
    every = [probe for probe in task.probes if probe.group in scored]
    own = [probe for probe in every if probe.group == name]
    own = own or [probe for probe in every if probe.group.startswith(name)]
    return tuple([probe for probe in own if is_asked(probe)] or own)
