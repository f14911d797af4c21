# SPDX-License-Identifier: Apache-2.0
"""Runs that train some weights, in bfloat16: whole checkpoints, a warning, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax import cli, workflows
from unilogit_jax.config import load_config
from unilogit_jax.run import Console, RunFolder
from unilogit_jax.sharding import make_mesh
from unilogit_jax.workflows._runs import load_stage

PARTS = ("model.scratch.layers=3", "eval.gold=false", "output.log_every=2")
SOME = "unlearn.trainable=[layers.1.mlp.down_proj, embed]"


@pytest.fixture(scope="module")
def made(tmp_path_factory, overrides):
    """A run with bfloat16 weights that unlearned with some of them in steps that are too small."""
    settings = (*overrides, *PARTS, SOME, "unlearn.learning_rates={embed: 2.0}")
    rest = ("unlearn.learning_rate=1e-6", "model.param_dtype=bfloat16")
    console = Console(quiet=True)
    experiment = load_config("toy", *settings, *rest)
    place = tmp_path_factory.mktemp("runs") / "run"
    return workflows.unlearn(experiment, out=place, console=console), console


def weights(run: RunFolder, stage: str, **options):
    _, params = load_stage(run, stage, mesh=make_mesh(), **options)
    return params


def test_a_checkpoint_holds_whole_weights_and_only_the_trained_ones_have_changed(made):
    run, _ = made
    before, after = weights(run, "target"), weights(run, "unlearn")
    assert {x.dtype for x in jax.tree.leaves(after)} == {jnp.dtype(jnp.bfloat16)}
    changed = jax.tree.map(lambda a, b: np.asarray(a != b), before, after)
    down = changed["layers"]["mlp"]["down_proj"].pop("kernel")
    assert down[1].any() and not down[0].any() and not down[2].any()
    assert changed.pop("embed")["kernel"].any()
    assert not any(x.any() for x in jax.tree.leaves(changed))


def test_steps_below_the_rounding_unit_are_warned_of_once(made):
    run, console = made
    (text,) = (w for w in console.warnings if "rounding unit" in w)
    assert text.startswith("stage unlearn: ") and "model.param_dtype=float32" in text
    lines = [line for line in run.metrics.read_text().splitlines() if '"unlearn"' in line]
    assert all("below_ulp" in line for line in lines)


def test_a_run_in_bfloat16_is_evaluated_exported_and_gone_on_from_in_float32(
    made, tmp_path, overrides
):
    run, _ = made
    _, wide, _ = workflows.load_pretrained(run.path)
    for got, stored in zip(*map(jax.tree.leaves, (wide, weights(run, "unlearn"))), strict=True):
        assert got.dtype == jnp.float32
        np.testing.assert_array_equal(got, np.asarray(stored, np.float32))
    workflows.export(run.path, tmp_path / "out", console=Console(quiet=True))
    _, again, _ = workflows.load_pretrained(tmp_path / "out")
    jax.tree.map(np.testing.assert_array_equal, again, wide)
    words = ("model.scratch=null", f"model.weights={run.path}", "eval.gold=false", SOME)
    experiment = load_config("toy", *words, *overrides[4:])
    on = workflows.unlearn(experiment, out=tmp_path / "on", console=Console(quiet=True))
    assert weights(on, "unlearn")["embed"]["kernel"].dtype == jnp.float32


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["unlearn.trainable=[layers.0.mlp.down_prj]"],
            "unlearn.trainable: 'layers.0.mlp.down_prj' ",
        ),
        (["finetune.learning_rates={embd: 2}"], "Did you mean 'embed'?"),
        (["unlearn.trainable=[layers.1]"], "those of this model are 0 to 0"),
        ([SOME, "lora={}"], "unlearn.trainable is about whole weights"),
        (["unlearn.learning_rates={embed: 2}", "lora={}"], "unlearn.learning_rates is about"),
        (["unlearn.learning_rates={embed: 0}"], "wants a number above 0"),
        (["unlearn.trainable=[]"], "unlearn.trainable"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    words, message, tmp_path, capsys, overrides
):
    out = tmp_path / "run"
    assert cli.main(["unlearn", "toy", *overrides, *words, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()
