# SPDX-License-Identifier: Apache-2.0
"""The mesh and the table from logical axes to mesh axes."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from unilogit_jax.errors import ConfigError
from unilogit_jax.sharding import fetch, make_mesh, partition_spec, put_batch
from unilogit_jax.types import Batch


def test_one_axis_takes_the_devices_that_remain():
    assert dict(make_mesh(tensor=2).shape) == {"data": 1, "fsdp": 4, "tensor": 2}
    assert dict(make_mesh(data=-1, fsdp=1).shape) == {"data": 8, "fsdp": 1, "tensor": 1}


@pytest.mark.parametrize("sizes", [{"data": 3, "fsdp": 1}, {"data": -1, "fsdp": -1}, {"tensor": 3}])
def test_sizes_that_do_not_fit_are_refused(sizes):
    with pytest.raises(ConfigError, match=r"mesh: .*(devices|only one)"):
        make_mesh(**sizes)


@pytest.mark.parametrize("sizes", [{"data": 0}, {"data": 0, "fsdp": 8}, {"tensor": -2}])
def test_a_size_that_is_none_is_named(sizes):
    axis = "tensor -2" if "tensor" in sizes else "data 0"
    with pytest.raises(ConfigError, match=f"mesh: {axis} is no size"):
        make_mesh(**sizes)


def test_an_axis_that_does_not_divide_is_dropped():
    mesh = make_mesh(fsdp=4, tensor=2)
    assert partition_spec(("embed", "mlp"), (8, 6), mesh) == P("fsdp", "tensor")
    assert partition_spec(("embed", "mlp"), (6, 5), mesh) == P(None, None)
    assert partition_spec(("batch", None), (8, 3), mesh) == P(("data", "fsdp"), None)


def test_axes_are_auto_so_that_plain_jit_code_runs():
    kinds = make_mesh().axis_types
    assert all(kind == jax.sharding.AxisType.Auto for kind in kinds)


def test_devices_get_their_rows_of_a_batch_and_no_others():
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    ids, weights = np.arange(24, dtype=np.int32).reshape(8, 3), np.ones((8, 3), np.float32)
    fields = dict.fromkeys(("tokens", "labels", "segments", "positions", "sets"), ids)
    tokens = put_batch(Batch(**fields, weights=weights, num_segments=9), mesh).tokens
    for shard in tokens.addressable_shards:
        (data, fsdp, _), *_ = np.argwhere(mesh.devices == shard.device)
        start = 2 * (2 * data + fsdp)
        np.testing.assert_array_equal(shard.data, ids[start : start + 2])
    np.testing.assert_array_equal(fetch(tokens), ids)
