# SPDX-License-Identifier: Apache-2.0
"""What is known after each of several requests: the probability of all their rows, and panels."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from unilogit_jax import models
from unilogit_jax.config import Experiment
from unilogit_jax.evaluation import MEANINGS, make_scorer
from unilogit_jax.hosts import agreed, by_first
from unilogit_jax.run import Console, RunFolder, read_json, write_json
from unilogit_jax.run.files import read_numbers, with_nan
from unilogit_jax.run.shapes import Requests
from unilogit_jax.sharding import make_mesh
from unilogit_jax.workflows._prepare import from_weights
from unilogit_jax.workflows._results import metric_rows
from unilogit_jax.workflows._rows import encode_some, read_task

RECORD = "requests.json"
"""In the folder of a sequence: the requests, and how likely the rows of each were after each."""
BEFORE = "start"
"""The column of the model that the first request finds."""


def request_folder(number: int) -> str:
    """Where in the folder a request's run is.

    Example:
      >>> request_folder(2)
      'request-2'

    """
    return f"request-{number}"


def measure(
    folder: RunFolder,
    experiment: Experiment,
    asked: Sequence[Experiment],
    *,
    after: int,
    console: Console,
) -> None:
    """Notes how likely the rows of every request are, unless that is known already.

    mean over rows of exp(mean over supervised tokens of log p)

    Args:
      folder: of the sequence.
      experiment: whose `model.weights` are measured.
      asked: an experiment for each request, with its `data.forget`.
      after: requests that these weights have served.
      console: where to print.

    """
    record = agreed(lambda: read_json(folder.path / RECORD, Requests))
    if len(record["probability"]) > after:
        return
    mesh = make_mesh(**experiment.mesh.model_dump())
    with console.stage(f"measuring the rows of all requests, {after} served") as stage:
        tokenizer, model, params = from_weights(experiment, mesh, stage.amount)
        size = experiment.eval.batch_size
        score = make_scorer(models.apply_fn(model), batch_size=size, mesh=mesh)
        found = []
        for one in asked:
            task = read_task(one)
            what = {"what": "rows to forget", "documents": task.documents}
            rows = encode_some(one, tokenizer, task.forget, **what)
            scores = score(params, rows, partial(stage.items, "rows"))
            found.append(float(np.mean(np.exp(-scores.nll))))
    record["probability"].append(found)
    by_first(lambda: write_json(folder.path / RECORD, record))


def tell(folder: RunFolder, console: Console, requests: Sequence[str]) -> None:
    """Prints the numbers after each request, and writes them as summary.json.

    The panels are those that the request at hand was measured on: all the same in a benchmark that
    has its own, and about each request's rows in own files.
    """
    record = agreed(lambda: read_json(folder.path / RECORD, Requests))
    columns: dict[str, dict[str, float]] = {}
    for number, values in enumerate(record["probability"]):
        found = with_nan({_key(k): value for k, value in enumerate(values, start=1)})
        columns[f"after {number}" if number else BEFORE] = found | _panels(folder, number)
    named = {_key(k): request for k, request in enumerate(requests, start=1)}
    rows = [
        [f"probability of {name}", "lower", *(f"{column[key]:.3f}" for column in columns.values())]
        for key, name in named.items()
    ]
    rows += [
        [row.name, row.direction, *(row.values[name] for name in columns)]
        for row in metric_rows(columns)
    ]
    console.table("after each request", ["metric", "better", *columns], rows)
    flat = {f"{name}.{key}": x for name, column in columns.items() for key, x in column.items()}
    by_first(lambda: write_json(folder.summary, {"requests": requests, **flat}))


def _key(number: int) -> str:
    return f"request_{number}_probability"


def _panels(folder: RunFolder, number: int) -> dict[str, float]:
    """What a request's run measured at its end, or the first one at its beginning."""
    run = RunFolder.open(folder.path / request_folder(max(number, 1)))
    side = "after." if number else "before."
    summary = agreed(lambda: read_numbers(run.summary))
    values = {name.removeprefix(side): x for name, x in summary.items() if name.startswith(side)}
    return with_nan({name: x for name, x in values.items() if name in MEANINGS})
