# SPDX-License-Identifier: Apache-2.0
"""Runs whose result is made of trained weights, or whose teacher a stage before has made."""

import json
import shutil

import jax
import numpy as np
import pytest

from unilogit_jax import workflows
from unilogit_jax.config import load_config
from unilogit_jax.errors import WeightsError
from unilogit_jax.run import Console
from unilogit_jax.sharding import make_mesh
from unilogit_jax.train import Checkpoints
from unilogit_jax.workflows._runs import load_stage, stages_of
from unilogit_jax.workflows.plan import START

LORA = "lora={rank: 2, targets: [q_proj, v_proj]}"
WORDS = ("eval.gold=false", "unlearn.learning_rate=0.003", "method.name=task_vector")


def run(folder, overrides, *words):
    experiment = load_config("toy", *overrides, *WORDS, *words)
    return workflows.unlearn(experiment, out=folder, console=Console(quiet=True)), experiment


@pytest.fixture(scope="module")
def made(tmp_path_factory, overrides):
    words = ("compare=[{name: whp, alpha: 2}]", "watch={every: 2}")
    return run(tmp_path_factory.mktemp("runs") / "run", overrides, *words)


def weights(run, stage):
    return load_stage(run, stage, mesh=make_mesh())[1]


def test_the_result_is_start_less_alpha_times_the_step_and_forgets(made):
    folder, _ = made
    assert stages_of(folder) == ["target", "unlearn", "unlearn-whp"]
    start, found = weights(folder, "target"), weights(folder, "unlearn")
    with Checkpoints(folder.checkpoints / "unlearn.trained") as checkpoints:
        trained = checkpoints.restore({"params": start})[0]["params"]
    for a, b, got in zip(*map(jax.tree.leaves, (start, trained, found)), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(got, a - 5 * (b - a), rtol=1e-5, atol=1e-6)
    summary = json.loads(folder.summary.read_text())
    assert summary["after.forget_probability"] < summary["before.forget_probability"]
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    (last,) = (x for x in lines if x["stage"] == "unlearn.trained" and x["step"] == 4
               and "forget_probability" in x)  # fmt: skip
    assert last["forget_probability"] == pytest.approx(summary["after.forget_probability"])
    nll = [x["forget_nll"] for x in lines if x["stage"] == "unlearn-whp.reinforced"]
    assert len(nll) == 4 and nll[-1] < nll[0]


def test_the_plan_has_the_stages_that_were_run(made):
    folder, experiment = made
    planned = workflows.plan(experiment, compiled=False)
    names = [stage.name for stage in planned.stages]
    assert names == ["target", "unlearn.trained", "unlearn-whp.reinforced", "unlearn-whp"]
    there = {p.name for p in folder.checkpoints.iterdir()}
    assert there == {*names, "unlearn"}
    assert all(START in stage.held for stage in planned.stages[1:3])


def test_a_resumed_run_ends_the_same(made):
    folder, _ = made
    before = {stage: weights(folder, stage) for stage in ("unlearn", "unlearn-whp")}
    # As if it had been ended before the result was written, and before the last method began.
    for stage in before:
        shutil.rmtree(folder.checkpoints / stage)
    again = workflows.resume(folder.path, console=Console(quiet=True))
    for stage, old in before.items():
        jax.tree.map(np.testing.assert_array_equal, weights(again, stage), old)


def test_with_adapters_and_alpha_zero_nothing_changes_and_there_is_no_adapter_to_export(
    tmp_path, overrides
):
    folder, _ = run(tmp_path / "run", overrides, LORA, "method.alpha=0")
    assert {p.name for p in folder.checkpoints.iterdir()} == {"target", "unlearn", "unlearn.lora"}
    start, found = weights(folder, "target"), weights(folder, "unlearn")
    jax.tree.map(np.testing.assert_array_equal, start, found)
    with pytest.raises(WeightsError, match="leave out --adapter"):
        workflows.export(folder.path, tmp_path / "out", adapter=True, console=Console(quiet=True))
