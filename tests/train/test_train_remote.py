# SPDX-License-Identifier: Apache-2.0
"""Checkpoints and traces in a bucket."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax.errors import CheckpointError, StorageError
from unilogit_jax.paths import to_path
from unilogit_jax.sharding import make_mesh
from unilogit_jax.train.checkpoint import Checkpoints, steps_in
from unilogit_jax.train.trace import Trace
from unilogit_jax.train.watch import Best


def tree(seed):
    """Arrays of two types, one of them divided over eight devices."""
    mesh, spec = make_mesh(fsdp=8), jax.sharding.PartitionSpec
    arrays = {
        "w": jax.random.normal(jax.random.key(seed), (16, 4)),
        "b": jnp.arange(5, dtype=jnp.bfloat16) + seed,
    }
    specs = {"w": spec("fsdp"), "b": spec()}
    places = {name: jax.sharding.NamedSharding(mesh, spec) for name, spec in specs.items()}
    return jax.device_put(arrays, places)


def test_checkpoints_come_back_bit_for_bit_and_old_ones_go(gcs):
    folder = f"{gcs.url}/checkpoints/target"
    with Checkpoints(folder, keep=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, {"params": tree(step)}, {"steps": 9})
            checkpoints.wait()
    assert steps_in(to_path(folder)) == [2, 3]
    assert not gcs.names("checkpoints/target/1/"), "no object is left of the first"
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.latest() == 3
        read, facts = checkpoints.restore({"params": tree(0)})
    assert facts["steps"] == 9
    jax.tree.map(np.testing.assert_array_equal, read["params"], tree(3))
    assert read["params"]["w"].sharding == tree(0)["w"].sharding


def test_a_checkpoint_that_was_cut_short_is_none_and_is_written_again(gcs):
    folder = f"{gcs.url}/target"
    with Checkpoints(folder, keep=2) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {"params": tree(step)}, {})
    # What a process killed amid the second save leaves.
    del gcs.buckets[gcs.bucket]["target/2/commit_success.txt"]
    assert steps_in(to_path(folder)) == [1]
    with Checkpoints(folder, keep=2) as checkpoints:
        assert checkpoints.latest() == 1
        checkpoints.save(2, {"params": tree(5)}, {})
    with Checkpoints(folder) as checkpoints:
        read, _ = checkpoints.restore({"params": tree(0)})
    jax.tree.map(np.testing.assert_array_equal, read["params"], tree(5))


def test_what_belongs_to_a_checkpoint_is_stored_before_it_or_it_is_not_made(gcs):
    refused = []

    def store():
        if refused:
            raise StorageError("full")
        gcs.write("lines", b"")

    folder = f"{gcs.url}/target"
    with Checkpoints(folder, keep=2, before_save=store) as checkpoints:
        checkpoints.save(1, {"params": tree(1)}, {})
        assert gcs.names("lines")
        checkpoints.wait()
        refused.append(True)
        with pytest.raises(StorageError, match="full"):
            checkpoints.save(2, {"params": tree(2)}, {})
    assert steps_in(to_path(folder)) == [1] and not gcs.names("target/2")


def test_a_damaged_checkpoint_is_noticed(gcs):
    folder = f"{gcs.url}/target"
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, {"params": tree(1)}, {})
    data = [name for name in gcs.names("target/1/params/") if "/d/" in name]
    for name in data:
        gcs.write(name, bytes(len(gcs.read(name))))
    with (
        Checkpoints(folder) as checkpoints,
        pytest.raises(CheckpointError, match=f"checkpoint {folder}/1 (cannot be read|is damaged)"),
    ):
        checkpoints.restore({"params": tree(0)})


def test_a_bucket_that_refuses_ends_saving_with_one_sentence(gcs):
    folder = f"{gcs.url}/target"
    with Checkpoints(folder, keep=2) as checkpoints:
        checkpoints.save(1, {"params": tree(1)}, {})
    with (
        pytest.raises(CheckpointError, match="Checkpoint 1 is intact") as caught,
        Checkpoints(folder, keep=2) as checkpoints,
    ):
        gcs.refused["POST", gcs.bucket] = 403
        checkpoints.save(2, {"params": tree(2)}, {})
    assert "\n" not in str(caught.value)
    assert steps_in(to_path(folder)) == [1]


def test_the_best_weights_of_a_watched_stage_are_kept_and_kept_again(gcs):
    best = Best(to_path(f"{gcs.url}/unlearn"))
    for step, seed in ((2, 1), (4, 2), (2, 3)):  # back to an earlier checkpoint in between
        best.save(step, tree(seed))
    assert steps_in(to_path(f"{gcs.url}/unlearn.best")) == [2]
    jax.tree.map(np.testing.assert_array_equal, best.restore(2, tree(0)), tree(3))


# A trace of more than a megabyte goes through a call of gcsfs that aiohttp warns of.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
def test_a_trace_is_uploaded(gcs):
    step = jax.jit(lambda x: x + 1)
    with Trace(to_path(f"{gcs.url}/profile/target"), first=1) as trace:
        for update in range(1, 4):
            trace.before(update)
            trace.after(update, step(update))
    assert any(name.endswith(".xplane.pb") for name in gcs.names("profile/target/plugins/"))
