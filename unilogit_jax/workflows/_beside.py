# SPDX-License-Identifier: Apache-2.0
"""What runs with one start have in common: the model they begin with, gold, and both's numbers."""

import json
from typing import Any

from jax.sharding import Mesh

from unilogit_jax.config import Experiment
from unilogit_jax.evaluation import Evaluation
from unilogit_jax.hosts import agreed
from unilogit_jax.run import RunFolder
from unilogit_jax.workflows._runs import GOLD, TARGET, column_of, load_stage
from unilogit_jax.workflows._stored import read_evaluation

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


def measured(run: RunFolder) -> dict[str, Evaluation]:
    """Column -> evaluation of the models that a run's method had no part in."""
    columns = (column_of(TARGET), column_of(GOLD))
    files = {name: run.eval / f"{name}.json" for name in columns}
    return agreed(
        lambda: {n: read_evaluation(file).evaluation for n, file in files.items() if file.is_file()}
    )
