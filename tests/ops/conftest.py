# SPDX-License-Identifier: Apache-2.0
"""The case of the divergences' tests, and cuts as awkward as they get."""

import pytest
from divergence_rig import make


@pytest.fixture
def made(rng):
    """Model, teacher, labels and weights."""
    return make(rng)


@pytest.fixture
def small_cuts(monkeypatch):
    """Chunks and blocks that divide neither tokens nor columns."""
    monkeypatch.setattr("unilogit_jax.ops.blocks.CHUNK", {True: 20, False: 10})
    monkeypatch.setattr("unilogit_jax.ops.blocks.BLOCK", 16)
