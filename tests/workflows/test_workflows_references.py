# SPDX-License-Identifier: Apache-2.0
"""A run asks its start model once: not for each method again, and not when it is resumed."""

import json
import shutil

import pytest

from unilogit_jax import workflows
from unilogit_jax.config import load_config
from unilogit_jax.run import Console
from unilogit_jax.train import reference

WORDS = (
    *("method.name=npo", "compare=[{name: npo, beta: 0.5}]"),
    *("eval.gold=false", "finetune.steps=2", "unlearn.steps=2"),
)


@pytest.fixture
def fetched(monkeypatch):
    """A list that grows with every array that the start model gives for a batch of rows."""
    calls, fetch = [], reference.fetch

    def count(x):
        calls.append(x.shape)
        return fetch(x)

    monkeypatch.setattr(reference, "fetch", count)
    return calls


def of_unlearn(run):
    """The logged lines of the first method, without the pace."""
    lines = map(json.loads, run.metrics.read_text().splitlines())
    own = [line for line in lines if line["stage"] == "unlearn"]
    return [{k: v for k, v in line.items() if k != "tokens_per_second"} for line in own]


def numbers(run):
    """The summary without the time that it took."""
    found = json.loads(run.summary.read_text())
    return {key: value for key, value in found.items() if not key.startswith("seconds.")}


def test_the_start_model_is_asked_once_for_all_methods_and_not_on_resume(
    tmp_path, overrides, fetched
):
    experiment = load_config("toy", *overrides, *WORDS)
    run = workflows.unlearn(experiment, out=tmp_path / "run", console=Console(quiet=True))
    (place,) = run.references.iterdir()
    manifest = json.loads((place / "manifest.json").read_text())
    rows = manifest["arrays"]["ref_log_odds"]["shape"][0]
    assert len(fetched) == -(-rows // experiment.eval.batch_size), "once for both methods"

    lines, summary = of_unlearn(run), numbers(run)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "unlearn")  # as if killed before the first one
    fetched.clear()
    again = workflows.resume(run.path, console=Console(quiet=True))
    assert not fetched
    assert of_unlearn(again) == lines and numbers(again) == summary
