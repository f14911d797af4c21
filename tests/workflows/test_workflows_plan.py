# SPDX-License-Identifier: Apache-2.0
"""Plans: the step that would run is the one that is compiled, and its bytes are those of a run."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
from benchmark_files import write_muse, write_rwku, write_wmdp

from unilogit_jax import accelerators, cli, models
from unilogit_jax.config import config_names, load_config
from unilogit_jax.errors import ConfigError, DataError, WeightsError
from unilogit_jax.sharding import batch_shardings, put_batch
from unilogit_jax.train import init_state, reference_for
from unilogit_jax.train.state import abstract_state, place
from unilogit_jax.workflows import plan
from unilogit_jax.workflows import plan as plan_workflow
from unilogit_jax.workflows._prepare import prepare
from unilogit_jax.workflows._programs import unlearn_program
from unilogit_jax.workflows._sketch import weight_shapes
from unilogit_jax.workflows._targets import with_targets
from unilogit_jax.workflows.plan import planned_unlearning

TOFU = f"data.dir={Path(__file__).parents[1] / 'data' / 'tofu'}"
WEIGHTS = ("model.scratch=null", "eval.gold=false")
INITIAL = ("method.tau=ngram", "method.alternatives=initial")
WRITERS = {"muse": write_muse, "rwku": write_rwku, "wmdp": write_wmdp}
LORA = "lora={rank: 2, targets: [q_proj, v_proj]}"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Benchmark -> words of a command line that name its files."""
    found = {"tofu": [TOFU], "toy": []}
    for name, write in WRITERS.items():
        folder = tmp_path_factory.mktemp(name)
        write(folder)
        found[name] = [f"data.dir={folder}"]
    found["rwku"].append("data.forget=1_Vela_Dorn")
    return found


@pytest.mark.parametrize("name", config_names())
def test_every_packaged_config_can_be_planned(name, folders):
    experiment = load_config(name, *folders[re.split("[-/]", name)[0]])
    found = plan(experiment, devices=jax.devices(), compiled=False)
    stages = {stage.name: stage for stage in found.stages}
    assert "unlearn" in stages and found.fits is None
    for stage in found.stages:
        assert stage.flops > 0
        whole = experiment.unlearn.trainable == ("*",)
        assert whole == (stage.gradients == stage.held["weights"])
        assert 2 * stage.gradients <= stage.held["optimizer"], "AdamW's two moments"


@pytest.mark.parametrize(
    "more", [(), ("method.name=npo",), ("method.name=undial",), INITIAL, (LORA,)]
)
def test_the_planned_step_is_the_one_that_runs(overrides, more):
    prepared = prepare(load_config("toy", *overrides, "mesh.tensor=2", *more))
    model, mesh, method = prepared.model, prepared.mesh, prepared.experiment.method
    _, params = models.init(model.config, jax.random.key(0), mesh=mesh)
    references, ref_head = reference_for(
        method, models.apply_fn(model), params, prepared.rows(method), batch_size=16, mesh=mesh
    )
    references = with_targets(prepared, method, references, start=params)
    real = unlearn_program(
        prepared, "unlearn", method, params, references=references, ref_head=ref_head
    )
    planned = planned_unlearning(prepared, "unlearn", method, weight_shapes(model))

    def options(program):
        weights = program.weights
        return {"axes": weights.axes, "mesh": mesh, "ref_head": weights.ref_head}

    state, shardings = init_state(real.weights.trained, real.optimizer(), **options(real))
    shapes, places = abstract_state(
        planned.weights.trained, planned.optimizer(), **options(planned)
    )
    assert places == shardings
    batch, likewise = real.batches(0), planned.batches(0)
    runs = real.step(prepared, shardings).lower(state, put_batch(batch, mesh))
    plans = planned.step(prepared, places).lower(
        shapes, place(likewise, batch_shardings(likewise, mesh))
    )
    assert plans.as_text() == runs.as_text()


def test_bytes_on_a_device_are_those_of_the_arrays_of_a_run(overrides):
    experiment = load_config("toy", *overrides, "mesh.tensor=2")
    stage = plan(experiment, compiled=False).stages[-1]
    prepared = prepare(experiment)
    model, mesh = prepared.model, prepared.mesh
    _, params = models.init(model.config, jax.random.key(0), mesh=mesh)
    program = unlearn_program(
        prepared, "unlearn", experiment.method, params, references={}, ref_head=None
    )
    state, _ = init_state(params, program.optimizer(), axes=program.weights.axes, mesh=mesh)

    def on_first(tree):
        return sum(x.addressable_data(0).nbytes for x in jax.tree.leaves(tree))

    assert stage.held["weights"] == on_first(state.params)
    assert stage.held["optimizer"] == on_first(state.opt_state)
    assert stage.held["batch"] == on_first(put_batch(program.batches(0), mesh))


def test_arithmetic_and_tokens_are_means_over_the_updates(overrides):
    experiment = load_config("toy", *overrides)
    stage = plan(experiment, compiled=False).stages[-1]
    prepared = prepare(experiment)
    program = unlearn_program(
        prepared, "unlearn", experiment.method, None, references={}, ref_head=None
    )
    batches = [program.batches(i) for i in range(stage.updates)]
    assert stage.tokens == np.mean([(batch.segments > 0).sum() for batch in batches])


def test_compiling_counts_memory_and_says_whether_it_fits(overrides, monkeypatch, capsys):
    found = plan(load_config("toy", *overrides))
    for stage in found.stages:
        assert stage.memory is not None and stage.memory.temporaries > 0
        assert sum(stage.held.values()) <= stage.memory.arguments
        assert {t.kind for t in stage.traffic} >= {"all-gather", "all-reduce"}
    assert found.fits
    monkeypatch.setattr(plan_module(), "_share_of_host", lambda devices: 1000)
    assert cli.main(["plan", "toy", *overrides]) == 2
    text = capsys.readouterr().out
    assert "It does not fit: stage target and gold and unlearn." in text
    for key in ("model.remat (now none", "unlearn.microbatches (now 1", "mesh (now data 1"):
        assert key in text


def plan_module():
    import sys

    return sys.modules[plan_workflow.__module__]


def test_weights_that_are_not_at_hand_are_planned_by_their_name(overrides, tmp_path):
    source = f"model.weights={tmp_path}/tofu_Llama-3.2-1B-Instruct_full"
    found = plan(load_config("toy", *overrides, source, *WEIGHTS), compiled=False)
    (stage,) = found.stages
    assert stage.held["weights"] == pytest.approx(1235814400 * 4 / 8, rel=1e-3)
    assert any("meta-llama/Llama-3.2-1B" in note for note in found.notes)
    assert any("no tokenizer" in note for note in found.notes)
    assert stage.tokens == 16 * 96, "full rows of data.max_length"


def test_adapters_have_frozen_weights_and_an_optimizer_of_their_own(overrides, tmp_path):
    source = f"model.weights={tmp_path}/Llama-3.2-1B"
    words = (*overrides, source, *WEIGHTS, LORA, "model.param_dtype=bfloat16")
    (stage,) = plan(load_config("toy", *words), compiled=False).stages
    assert stage.held["frozen weights"] == pytest.approx(1235814400 * 2 / 8, rel=1e-3)
    # q_proj: (2048 + 2048) x 2, v_proj: (2048 + 512) x 2, 16 layers, float32; a lies over fsdp,
    # and b over nothing on this mesh.
    adapters = 16 * 4 * (2 * 2048 * 2 / 8 + (2048 + 512) * 2)
    assert stage.held["weights"] == stage.gradients == adapters


def test_weights_of_an_unknown_name_are_refused(overrides, tmp_path):
    words = (*overrides, f"model.weights={tmp_path}/none", *WEIGHTS)
    with pytest.raises(WeightsError, match="none"):
        plan(load_config("toy", *words), compiled=False)


def test_data_that_is_not_there_is_refused(overrides, tmp_path):
    words = ("data.benchmark=files", f"data.forget={tmp_path}/forget.jsonl")
    with pytest.raises(DataError, match=r"forget\.jsonl"):
        plan(load_config("toy", *overrides, *words), compiled=False)


@pytest.mark.parametrize("name", ["v5e", "v5e:4y4", "h100:8", "v5:2x2"])
def test_a_slice_that_is_none_is_refused(name):
    with pytest.raises(ConfigError, match="no such TPU slice"):
        plan(load_config("toy"), topology=name)


def test_a_slice_without_the_compiler_says_what_to_install(monkeypatch):
    monkeypatch.setattr(accelerators, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs libtpu"):
        plan(load_config("toy"), topology="v5e:2x2")


def test_weights_that_a_later_stage_begins_with_are_held_beside_the_step(overrides):
    words = (*overrides, "compare=[{name: grad_diff}]", "eval.gold=false")
    target, first, last = plan(load_config("toy", *words), compiled=False).stages
    assert first.held["weights to start from"] == first.held["weights"]
    assert "weights to start from" not in target.held and "weights to start from" not in last.held
    assert first.total - last.total == first.held["weights"]
