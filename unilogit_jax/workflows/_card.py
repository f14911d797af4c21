# SPDX-License-Identifier: Apache-2.0
"""The model card of an exported run: what was unlearned, how, and with which scores."""

from typing import Any

from unilogit_jax import __version__
from unilogit_jax.config import Experiment, dump_config, method_label
from unilogit_jax.evaluation import MEANINGS
from unilogit_jax.run import RunFolder
from unilogit_jax.run.files import read_numbers
from unilogit_jax.workflows._runs import GOLD, TARGET, UNLEARN, column_of


def model_card(run: RunFolder, experiment: Experiment, stage: str) -> str:
    """README.md of the folder that a stage is exported to, in the Hub's Markdown.

    Args:
      run: the run; its scores are shown where it has measured any.
      experiment: its configuration.
      stage: the exported stage.

    """
    parts = [
        _header(experiment),
        f"# {experiment.name}: {stage}\n",
        f"{_what(experiment, stage)}\n",
        _scores(run, stage),
        "## Configuration\n",
        f"```yaml\n{dump_config(experiment)}```\n",
        f"Made with unilogit_jax {__version__}.\n",
    ]
    return "\n".join(part for part in parts if part)


def _header(experiment: Experiment) -> str:
    base = experiment.model.weights
    # The Hub links `base_model`, so it must not be a path of somebody's machine.
    is_id = base is not None and base.count("/") == 1 and not base.startswith((".", "/", "~"))
    lines = ["---", "library_name: transformers", "tags: [machine-unlearning, unilogit_jax]"]
    return "\n".join([*lines, *([f"base_model: {base}"] if is_id else []), "---\n"])


def _what(experiment: Experiment, stage: str) -> str:
    if stage == TARGET:
        return "A model trained on all rows of its task; nothing was unlearned from it."
    if stage == GOLD:
        return "A model that was trained without the rows to forget: what unlearning aims at."
    data = experiment.data
    rows = f"`{data.forget}`" if data.forget else f"the forget rows of `{data.benchmark}`"
    rest = f"`{data.retain}`" if data.retain else f"the retain rows of `{data.benchmark}`"
    name = method_label(experiment.method) if stage == UNLEARN else column_of(stage)
    return (
        f"This model unlearned {rows} with the method **{name}**, while it was held to {rest}. "
        "Unlearning changes what a model says; it is no proof that nothing is left inside."
    )


def _scores(run: RunFolder, stage: str) -> str:
    if not run.summary.is_file():
        return ""
    summary = read_numbers(run.summary)
    mine = column_of(stage)
    columns = list(dict.fromkeys(["before", mine, "gold"]))
    columns = [c for c in columns if any(key.startswith(f"{c}.") for key in summary)]
    rows = [
        (meaning.title, meaning.direction, [summary.get(f"{c}.{key}") for c in columns])
        for key, meaning in MEANINGS.items()
    ]
    lines = [
        f"| {title} | {direction} | {' | '.join(_cell(value) for value in values)} |"
        for title, direction, values in rows
        if any(value is not None for value in values)
    ]
    if not lines:
        return ""
    head = f"| score | better | {' | '.join(columns)} |\n|---|---|{'---|' * len(columns)}"
    return "\n".join(["## Scores\n", head, *lines, ""])


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.3g}"
