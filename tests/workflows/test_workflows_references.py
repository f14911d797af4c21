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
    *("method.name=npo", "method.retain=kl", "compare=[{name: npo, beta: 0.5}, {name: undial}]"),
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


def test_the_start_model_is_asked_once_for_all_methods_and_not_on_resume(
    tmp_path, overrides, fetched
):
    experiment = load_config("toy", *overrides, *WORDS)
    run = workflows.unlearn(experiment, out=tmp_path / "run", console=Console(quiet=True))
    names = {path.name for path in run.references.iterdir()}
    assert names == {"forget-log_odds", "retain-hidden", "forget-hidden"}
    rows = {
        name: json.loads((run.references / name / "manifest.json").read_text())["arrays"]
        for name in names
    }
    shapes = [entry["shape"] for arrays in rows.values() for entry in arrays.values()]
    size = experiment.eval.batch_size
    assert len(fetched) == sum(-(-shape[0] // size) for shape in shapes), "each once"

    lines = run.metrics.read_text()
    summary = json.loads(run.summary.read_text())
    for name in ("unlearn", "unlearn-undial"):
        shutil.rmtree(run.checkpoints / name)  # as if killed before the first one
    fetched.clear()
    again = workflows.resume(run.path, console=Console(quiet=True))
    assert not fetched
    assert json.loads(again.summary.read_text()) == summary

    def of(text, stage):
        found = [line for line in map(json.loads, text.splitlines()) if line["stage"] == stage]
        return [{k: v for k, v in line.items() if k != "tokens_per_second"} for line in found]

    for stage in ("unlearn", "unlearn-undial"):
        assert of(again.metrics.read_text(), stage) == of(lines, stage)
