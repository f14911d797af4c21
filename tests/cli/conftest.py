# SPDX-License-Identifier: Apache-2.0
"""No compile cache for verbs that are run in this process."""

import pytest


@pytest.fixture(autouse=True)
def no_compile_cache(monkeypatch):
    """JAX's own variable wins, so that verbs run in this process leave its settings alone."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "unused")
