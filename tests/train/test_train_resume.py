# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: resumed runs equal uninterrupted ones, damage is noticed, nothing is overwritten."""

import gc
import shutil
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax.errors import CheckpointError, TrainingError
from unilogit_jax.train import Checkpoints, fingerprint, resume

ONE = {"data": 1, "fsdp": 1, "tensor": 1}
EIGHT = {"data": 1, "fsdp": 4, "tensor": 2}
FSDP = {"data": 1, "fsdp": 8, "tensor": 1}


def same(a, b):
    return all(
        np.array_equal(np.asarray(x), np.asarray(y))
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


class Stopped(Exception):
    """Stands for a run that is killed."""


def interrupted(stage, at):
    """The same stage, dying when batch `at` is asked for."""

    def batch_at(i):
        if i == at:
            raise Stopped
        return stage.batch_at(i)

    return type(stage)(**{**vars(stage), "batch_at": batch_at})


@pytest.mark.parametrize("sizes", [ONE, EIGHT], ids=["one", "eight"])
def test_a_run_stopped_and_resumed_equals_one_never_stopped(rig, tmp_path, sizes):
    whole, whole_lines = rig(sizes).run(tmp_path / "whole")
    first = rig(sizes)
    with pytest.raises(Stopped):
        first.run(tmp_path / "parts", interrupted(first.stage(), 5))
    resumed, lines = rig(sizes).run(tmp_path / "parts")
    assert lines == whole_lines[4:], "resumed after update 4, the newest checkpoint"
    assert same(
        (resumed.params, resumed.opt_state, resumed.step),
        (whole.params, whole.opt_state, whole.step),
    )


def test_a_finished_run_resumes_to_its_end_at_once(rig, tmp_path):
    done, _ = rig(ONE).run(tmp_path / "run")
    again, lines = rig(ONE).run(tmp_path / "run")
    assert lines == [] and same(done.params, again.params)


def test_a_checkpoint_goes_on_on_another_mesh_from_the_same_values(rig, tmp_path):
    first = rig(FSDP)
    whole, whole_lines = first.run(tmp_path / "whole")
    (tmp_path / "parts").mkdir()
    shutil.copytree(tmp_path / "whole" / "4", tmp_path / "parts" / "4")
    with Checkpoints(tmp_path / "parts") as checkpoints:
        wanted, _ = resume(first.stage(), first.state()[0], checkpoints)
    assert int(wanted.step) == 4 and not same(wanted.params, whole.params)
    for sizes in (ONE, EIGHT):
        here, folder = rig(sizes), tmp_path / f"on-{sizes['fsdp']}"
        shutil.copytree(tmp_path / "parts", folder)
        with Checkpoints(folder) as checkpoints:
            moved, _ = resume(here.stage(), here.state()[0], checkpoints)
        assert same((moved.params, moved.opt_state), (wanted.params, wanted.opt_state))
        assert {x.sharding.mesh for x in jax.tree.leaves(moved.params)} == {here.mesh}
        _, lines = here.run(folder)
        assert [line.pop("stage") for line in lines] == ["unlearn"] * 2
        for mine, line in zip(lines, whole_lines[4:], strict=True):
            assert mine == pytest.approx({k: line[k] for k in line if k != "stage"}, rel=1e-5)


def test_a_checkpoint_of_a_run_of_another_length_is_refused(rig, tmp_path):
    rig(ONE).run(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"the stage had 6 updates, has 8"):
        rig(ONE, steps=8).run(tmp_path / "run")


def save(folder, tree, step=1):
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(step, {"params": tree}, {"note": "x"})


TREE = {"a": jnp.arange(4096.0), "b": {"c": jnp.ones((64, 64), jnp.bfloat16)}}


def test_trees_and_facts_come_back_as_they_were(tmp_path):
    save(tmp_path, TREE)
    with Checkpoints(tmp_path) as checkpoints:
        trees, facts = checkpoints.restore({"params": TREE})
    assert same(trees["params"], TREE) and facts["note"] == "x" and facts["step"] == 1


def test_a_checkpoint_with_a_damaged_byte_is_refused_by_name(tmp_path):
    save(tmp_path, TREE)
    files = sorted((p for p in tmp_path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(files[-1].read_bytes())
    for i in range(len(data) // 4, len(data), len(data) // 16):
        data[i] ^= 0x55
    files[-1].write_bytes(bytes(data))
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(CheckpointError, match=r"checkpoint .*1 .*damaged"),
    ):
        checkpoints.restore({"params": TREE})


def test_wrong_contents_of_the_right_shape_are_noticed(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        marks = {"params": [int(x) for x in jax.tree.leaves(fingerprint(TREE))]}
        marks["params"][0] += 1
        ocp = checkpoints._ocp
        items = {
            "params": ocp.args.StandardSave(TREE),
            "facts": ocp.args.JsonSave({"fingerprints": marks}),
        }
        checkpoints._manager.save(1, args=ocp.args.Composite(**items))
        checkpoints._manager.wait_until_finished()
        with pytest.raises(CheckpointError, match="its params are not those that were saved"):
            checkpoints.restore({"params": TREE})


def test_arrays_of_another_shape_are_refused(tmp_path):
    save(tmp_path, TREE)
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(CheckpointError, match="cannot be read"),
    ):
        checkpoints.restore({"params": {**TREE, "a": jnp.zeros(5)}})


def test_an_older_step_is_not_silently_dropped(tmp_path):
    save(tmp_path, TREE, step=5)
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError, match="holds step 5"):
        checkpoints.save(3, {"params": TREE}, {})


def test_an_empty_folder_has_nothing_to_restore(tmp_path):
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(CheckpointError, match="no checkpoint"),
    ):
        checkpoints.restore({"params": TREE})


def test_the_fingerprint_sees_a_swap_and_a_sign():
    x = jnp.array([1.0, 2.0, 3.0])
    marks = {int(fingerprint(v)) for v in (x, x[::-1], -x, x.at[1].add(1e-6))}
    assert len(marks) == 4


def test_a_damaged_checkpoint_leaves_nothing_behind_to_complain(tmp_path, monkeypatch):
    tree = {f"x{i}": jnp.arange(65536.0) + i for i in range(8)}
    save(tmp_path, tree)
    for path in (tmp_path / "1" / "params").rglob("*"):
        if path.is_file() and path.stat().st_size > 2000:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    complaints = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: complaints.append(args.exc_value))
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(CheckpointError, match="Requested byte range"),
    ):
        checkpoints.restore({"params": tree})
    gc.collect()
    assert complaints == []


def test_a_run_whose_numbers_break_stops_and_keeps_the_last_good_weights(rig, tmp_path):
    one = rig(ONE, steps=8)
    stage = one.stage(log_every=1, max_skipped=3, checkpoint_every=3)

    def batch_at(i):
        batch = one.batches(i)
        return batch if i < 3 else replace(batch, weights=np.full_like(batch.weights, np.nan))

    with pytest.raises(TrainingError, match="3 updates in a row; the first was update 4") as error:
        one.run(tmp_path, replace(stage, batch_at=batch_at))
    assert "weights after update 3 are kept, as checkpoint 6 in" in str(error.value)
    params = one.state()[0].params
    with Checkpoints(tmp_path, keep=3) as kept:
        (before, _), (after, _) = (kept.restore({"params": params}, step=n) for n in (3, 6))
    assert same(before, after)
    resumed, lines = one.run(tmp_path, one.stage())
    assert [line["step"] for line in lines] == [7, 8] and int(resumed.skipped) == 3
