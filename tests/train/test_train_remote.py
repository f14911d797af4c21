# SPDX-License-Identifier: Apache-2.0
"""Checkpoints and traces in a bucket."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax.errors import CheckpointError
from unilogit_jax.paths import to_path
from unilogit_jax.sharding import make_mesh
from unilogit_jax.train.checkpoint import Checkpoints, steps_in
from unilogit_jax.train.trace import Trace


def tree(seed):
    """Arrays of two types, one of them divided over eight devices."""
    rows = jax.random.normal(jax.random.key(seed), (16, 4))
    sharding = jax.sharding.NamedSharding(make_mesh(fsdp=8), jax.sharding.PartitionSpec("fsdp"))
    return {"w": jax.device_put(rows, sharding), "b": jnp.arange(5, dtype=jnp.bfloat16)}


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


def test_what_belongs_to_a_checkpoint_is_stored_before_any_of_it(gcs):
    with Checkpoints(f"{gcs.url}/target", before_save=lambda: gcs.write("lines", b"")) as it:
        for step in (1, 2):
            it.save(step, {"params": tree(step)}, {})
    for step in (1, 2):
        first = min(k for k, name in enumerate(gcs.wrote) if name.startswith(f"target/{step}/"))
        assert gcs.wrote[:first].count("lines") == step


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
    with Checkpoints(f"{gcs.url}/target", keep=2) as checkpoints:
        checkpoints.save(1, {"params": tree(1)}, {})
        checkpoints.wait()
        gcs.refused["POST", gcs.bucket] = 403
        with pytest.raises(CheckpointError, match="Checkpoint 1 is intact") as caught:
            checkpoints.save(2, {"params": tree(2)}, {})
            checkpoints.wait()
        gcs.refused.clear()
    assert "\n" not in str(caught.value)
    assert steps_in(to_path(f"{gcs.url}/target")) == [1]


def test_a_trace_is_uploaded(gcs):
    step = jax.jit(lambda x: x + 1)
    with Trace(to_path(f"{gcs.url}/profile/target"), first=1) as trace:
        for update in range(1, 4):
            trace.before(update)
            trace.after(update, step(update))
    assert any(name.endswith(".xplane.pb") for name in gcs.names("profile/target/plugins/"))
