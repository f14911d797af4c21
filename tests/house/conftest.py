# SPDX-License-Identifier: Apache-2.0
"""Scripts that write pages, as modules."""

import importlib.util
from pathlib import Path

import pytest

import unilogit_jax

SCRIPTS = Path(unilogit_jax.__file__).parents[1] / "scripts"


@pytest.fixture
def script():
    """Name -> module of scripts/."""

    def load(name):
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
