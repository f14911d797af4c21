# SPDX-License-Identifier: Apache-2.0
"""Plans for TPU slices, and the order of a slice's chips on a mesh."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unilogit_jax.accelerators import GIB, accelerator_of, topology_devices
from unilogit_jax.config import load_config
from unilogit_jax.errors import ConfigError
from unilogit_jax.sharding import make_mesh
from unilogit_jax.workflows import plan

BIG = (
    "model.scratch=null",
    "eval.gold=false",
    "model.weights=nowhere/Llama-3.2-1B",
    "model.dtype=bfloat16",
    "model.remat=full",
    "data.max_length=512",
    "unlearn.batch_size=4",
    "unlearn.retain_ratio=1",
    "eval.batch_size=8",
)


def test_a_1b_model_on_four_chips_fits_and_exchanges_its_weights_twice_and_its_gradients_once():
    found = plan(load_config("toy", *BIG), topology="v5e:2x2")
    (stage,) = found.stages
    assert found.fits and found.limit == int(15.75 * GIB)
    head = 128256 * 2048
    layers = 1235814400 - head
    # Layers in bfloat16 forward, backward and as gradients; the head in bfloat16, its gradient in
    # float32. Where a ring passes pieces on, the fourth that a device has itself is not moved;
    # pieces are padded to whole tiles, and the tokens' embeddings change places too.
    least, most = (3 * 2 * layers * share + 2 * head + 4 * head for share in (0.7, 1.0))
    assert least < sum(t.bytes for t in stage.traffic) < 1.05 * most


def test_a_slice_with_too_little_memory_is_said_not_to_fit():
    more = ("unlearn.batch_size=256", "model.remat=none", "data.max_length=2048")
    found = plan(load_config("toy", *BIG, *more), topology="v5e:2x2")
    assert found.fits is False


def test_the_command_plans_for_a_slice_from_a_plain_start():
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "unilogit_jax", "plan", "toy", "--topology", "v5e:2x2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    assert "4 x TPU v5e" in done.stdout and "It fits." in done.stdout


def test_a_slice_of_an_impossible_shape_is_refused():
    with pytest.raises(ConfigError, match=r"v5e:3x3 is no TPU slice: .*not divisible"):
        topology_devices("v5e:3x3")


def hops(grid, axis):
    rows = np.moveaxis(grid, axis, -1).reshape(-1, grid.shape[axis])
    return max(
        sum(abs(p - q) for p, q in zip(a.coords, b.coords, strict=True))
        for row in rows
        for a, b in itertools.pairwise(row)
    )


@pytest.mark.parametrize("name", ["v5e:4x4", "v5p:4x4x4"])
def test_neighbours_on_the_tensor_axis_are_neighbours_on_the_board(name):
    devices = topology_devices(name)
    assert hops(make_mesh(tensor=4, devices=devices).devices, 2) == 1


def test_every_version_has_its_figures():
    for name in ("v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2", "tpu7x:2x2x1"):
        found = accelerator_of(topology_devices(name)[0])
        assert found is not None and found.memory
