# SPDX-License-Identifier: Apache-2.0
"""Four TPU chips that exist for the compiler only."""

from importlib.util import find_spec

import jax
import pytest

from unilogit_jax.accelerators import topology_devices
from unilogit_jax.sharding import make_mesh

# Only the environment that `make test-tpu` makes has libtpu, the compiler.
collect_ignore_glob = [] if find_spec("libtpu") else ["test_*.py"]


@pytest.fixture(autouse=True)
def usual_precision():
    """What programs run with: the suite's own, "highest", is not for bfloat16 on TPUs."""
    with jax.default_matmul_precision("default"):
        yield


@pytest.fixture(scope="session")
def chips():
    """Devices of a v5e board: programs compile for them, and cannot run."""
    return topology_devices("v5e:2x2")


@pytest.fixture(scope="session")
def mesh(chips):
    """Rows and weights over two chips, heads over two."""
    return make_mesh(data=1, fsdp=2, tensor=2, devices=chips)
