# SPDX-License-Identifier: Apache-2.0
"""Four TPU chips that exist for the compiler only."""

import os
from importlib.util import find_spec

import jax
import pytest

from unilogit_jax.sharding import make_mesh

# Only the environment that `make test-tpu` makes has libtpu, the compiler.
collect_ignore_glob = [] if find_spec("libtpu") else ["test_*.py"]

# What libtpu would otherwise look for on this machine, and complain of.
os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("TPU_LOG_DIR", "disabled")


@pytest.fixture(autouse=True)
def usual_precision():
    """What programs run with: the suite's own, "highest", is not for bfloat16 on TPUs."""
    with jax.default_matmul_precision("default"):
        yield


@pytest.fixture(scope="session")
def chips():
    """Devices of a v5e board: programs compile for them, and cannot run."""
    from jax.experimental import topologies

    return topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices


@pytest.fixture(scope="session")
def mesh(chips):
    """Rows and weights over two chips, heads over two."""
    return make_mesh(data=1, fsdp=2, tensor=2, devices=chips)
