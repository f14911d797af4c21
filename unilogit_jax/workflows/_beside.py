# SPDX-License-Identifier: Apache-2.0
"""What runs with one start have in common: the model they begin with, gold, and both's numbers."""

import json
import math
from typing import Any

from jax.sharding import Mesh

from unilogit_jax.config import Experiment
from unilogit_jax.evaluation import Evaluation, Item
from unilogit_jax.hosts import agreed
from unilogit_jax.paths import AnyPath
from unilogit_jax.run import RunFolder, read_json
from unilogit_jax.workflows._runs import GOLD, TARGET, column_of, load_stage

_OWN = ("name", "method", "compare", "unlearn", "lora", "watch", "output")
"""Sections that say nothing about the models a run begins with."""


def start_key(experiment: Experiment) -> str:
    """What two experiments have to agree in to begin with the same models, as text."""
    tree = experiment.model_dump(mode="json")
    shared = {name: value for name, value in tree.items() if name not in _OWN}
    return json.dumps([shared, tree["output"]["seed"]], sort_keys=True)


def start_of(run: RunFolder, *, mesh: Mesh) -> Any:
    """The weights that a run made for itself and began with."""
    return load_stage(run, TARGET, mesh=mesh)[1]


def measured(run: RunFolder, suite: str) -> dict[str, Evaluation]:
    """Column -> evaluation of the models that a run's method had no part in."""
    columns = (column_of(TARGET), column_of(GOLD))
    files = {name: run.eval / f"{name}.json" for name in columns}
    return agreed(
        lambda: {n: read_evaluation(file, suite) for n, file in files.items() if file.is_file()}
    )


def read_evaluation(path: AnyPath, suite: str) -> Evaluation:
    """An evaluation as `write_evaluations` stores it."""
    stored = read_json(path)
    lists = ("wrong_nll", "wrong_tokens", "others")
    items = [Item(**one | {name: tuple(one[name]) for name in lists}) for one in stored["items"]]
    seen = stored["summary"].get("retain_seen_accuracy", math.nan)
    return Evaluation(tuple(items), seen, suite)
