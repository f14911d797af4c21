# SPDX-License-Identifier: Apache-2.0
"""Runs that are evaluated on the way: they stop when told to, and keep the weights asked for."""

import json

import jax
import numpy as np
import pytest

from unilogit_jax import workflows
from unilogit_jax.config import load_config
from unilogit_jax.errors import ConfigError
from unilogit_jax.evaluation import Evaluator
from unilogit_jax.run import Console
from unilogit_jax.sharding import make_mesh
from unilogit_jax.train import fingerprint
from unilogit_jax.workflows._runs import load_stage, stages_of

LORA = "lora={rank: 2, targets: [q_proj, v_proj]}"


def run(folder, overrides, *words, console=None):
    experiment = load_config("toy", *overrides, "unlearn.steps=6", "eval.gold=false", *words)
    return workflows.unlearn(experiment, out=folder, console=console or Console(quiet=True))


def lines(run):
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


@pytest.mark.parametrize("more", [(), (LORA,)], ids=["whole", "lora"])
def test_a_reached_target_ends_the_stage_and_a_resumed_run_leaves_it_ended(
    tmp_path, overrides, more
):
    made = run(tmp_path / "run", overrides, "watch={every: 2, forget_target: 1.0}", *more)
    stage = "unlearn.lora" if more else "unlearn"
    own = [line for line in lines(made) if line["stage"] == stage]
    assert max(line["step"] for line in own) == 2
    (seen,) = [line for line in own if "forget_probability" in line]
    summary = json.loads(made.summary.read_text())
    # The weights that were evaluated on the way are those that are measured at the end.
    for name in ("forget_probability", "retain_probability", "forget_rouge_l"):
        assert seen[name] == pytest.approx(summary[f"after.{name}"], rel=1e-6)
    again = workflows.resume(made.path, console=Console(quiet=True))
    assert lines(again) == lines(made)


def test_gradient_norms_are_left_out_on_the_way(tmp_path, overrides, monkeypatch):
    asked, whole = [], Evaluator.__call__

    def measured(self, params, *, grad_norm=True, progress=None):
        asked.append(grad_norm)
        return whole(self, params, grad_norm=grad_norm)

    monkeypatch.setattr(Evaluator, "__call__", measured)
    run(tmp_path / "run", overrides, "watch={every: 3}")
    assert asked == [True, False, False, True], "before, twice on the way, after"


def test_the_best_weights_above_the_floor_are_those_of_the_run(tmp_path, overrides):
    floor = "watch={every: 2, utility_floor: 0.01}"
    made = run(tmp_path / "run", overrides, floor)
    known = {
        line["step"]: line["forget_probability"]
        for line in lines(made)
        if line["stage"] == "unlearn" and "forget_probability" in line
    }
    assert sorted(known) == [2, 4, 6]
    best = min(known, key=lambda step: known[step])
    shorter = run(tmp_path / "short", overrides, "output.keep_checkpoints=9")
    mesh = make_mesh()
    _, kept = load_stage(made, mesh=mesh)
    assert stages_of(made) == ["target", "unlearn"], "the best weights are no stage"
    from unilogit_jax.train import Checkpoints

    with Checkpoints(shorter.checkpoints / "unlearn") as checkpoints:
        trees, _ = checkpoints.restore({"params": kept}, best)
    same = jax.tree.map(
        lambda a, b: np.array_equal(a, b), *map(fingerprint, (kept, trees["params"]))
    )
    assert all(jax.tree.leaves(same))


def test_without_rows_to_keep_it_warns_and_cannot_watch_them(tmp_path, overrides):
    (tmp_path / "forget.jsonl").write_text('{"question": "Who was Vela?", "answer": "A baker."}\n')
    words = ("data.benchmark=files", f"data.forget={tmp_path}/forget.jsonl", "data.retain=null")
    words += ("watch={every: 2}", "unlearn.retain_ratio=0")
    console = Console(quiet=True)
    with pytest.raises(ConfigError, match=r"watch\.utility retain_probability is not measured"):
        run(tmp_path / "run", overrides, *words, console=console)
    (warning,) = console.warnings
    assert "no rows to keep (data.retain)" in warning
