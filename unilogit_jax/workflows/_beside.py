# SPDX-License-Identifier: Apache-2.0
"""What runs with one start have in common: the model they begin with, gold, and both's numbers."""

import json
from typing import Any

from jax.sharding import Mesh

from unilogit_jax.config import Experiment
from unilogit_jax.evaluation import Evaluation
from unilogit_jax.hosts import agreed
from unilogit_jax.paths import to_path
from unilogit_jax.run import RunFolder
from unilogit_jax.run.record import note, read_record
from unilogit_jax.workflows._runs import GOLD, TARGET, column_of, is_run, load_stage
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


def note_origin(run: RunFolder, beside: RunFolder) -> None:
    """Notes the run whose models another begins with; for the first process only."""
    # By its name alone where both lie in one folder, which may then be moved.
    near = run.path.parent == beside.path.parent
    note(run.path, "start", folder=beside.path.name if near else str(beside.path.absolute()))


def origin_of(run: RunFolder) -> RunFolder | None:
    """The run whose models this one began with; None if it made its own, or that is not there."""
    name = read_record(run.path).get("start", {}).get("folder")
    if name is None:
        return None
    place = to_path(name) if "/" in name else run.path.parent / name
    return RunFolder(place) if is_run(place) else None


def measured(run: RunFolder) -> dict[str, Evaluation]:
    """Column -> evaluation of the models that a run's method had no part in."""
    columns = (column_of(TARGET), column_of(GOLD))
    files = {name: run.eval / f"{name}.json" for name in columns}
    return agreed(
        lambda: {n: read_evaluation(file).evaluation for n, file in files.items() if file.is_file()}
    )
