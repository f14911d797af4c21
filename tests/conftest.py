# SPDX-License-Identifier: Apache-2.0
"""Test settings: eight CPU devices, no network, float32 matmuls, rank promotion refused."""

import gc
import os
import socket
import tempfile
from itertools import count
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["HF_HUB_OFFLINE"] = "1"
# Programs of tests are small and run a few times: compiling them carefully is half of the time. In
# the environment, for processes that tests start are compared with this one bit by bit.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
# What one worker or one of their processes compiled, all others read. JAX's own variable wins over
# the folder of the command line, so that verbs run in this process leave its settings alone.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _programs = tempfile.TemporaryDirectory(prefix="unilogit-programs-", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _programs.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax
import numpy as np
import pytest
from fake_gcs import FakeGcs

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")


MAPS = 20_000
"""Parts of memory that a process may have when a file of tests ends; a compiled program has about
fifteen, and Linux allows a process 65,530."""


@pytest.fixture(scope="module", autouse=True)
def room_for_programs():
    """Programs of files that are done are dropped before there are too many."""
    yield
    parts = Path("/proc/self/maps")
    if parts.exists() and parts.read_text().count("\n") > MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(autouse=True)
def no_network(request, monkeypatch):
    """Any attempt to open an internet connection fails the test, but to servers of its own."""
    allowed = {"127.0.0.1"} if {"gcs", "hub_at"} & set(request.fixturenames) else set()

    def refuse(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in allowed:
            raise AssertionError(f"a test tried to reach the network: {address}")
        return original(self, address)

    original = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded NumPy generator."""
    return np.random.default_rng(0)


@pytest.fixture
def strict_dtypes():
    """Dtype promotion refused: for ops, losses and methods."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="session")
def gcs_server():
    """One for all tests: clients remember the address that they first talked to."""
    with FakeGcs() as server:
        yield server


@pytest.fixture
def gcs(gcs_server, monkeypatch):
    """A stand-in for Google Cloud Storage, with a new bucket: `gcs.url` and `gcs.bucket`."""
    import fsspec

    for name, value in gcs_server.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
    gcs_server.open_bucket(f"bucket{next(_numbers)}")
    return gcs_server


_numbers = count()
