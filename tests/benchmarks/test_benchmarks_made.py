# SPDX-License-Identifier: Apache-2.0
"""Benchmarks that are made by code are the same on every machine."""

import hashlib
import os
import subprocess
import sys

import pytest

from unilogit_jax.benchmarks import shop, toy


@pytest.mark.parametrize("module", [shop, toy], ids=["shop", "toy"])
def test_another_process_with_another_hash_seed_makes_the_same_task(module):
    script = (
        f"import hashlib; from {module.__name__} import make_task;"
        "print(hashlib.sha256(repr(make_task(seed=3)).encode()).hexdigest())"
    )
    here = hashlib.sha256(repr(module.make_task(seed=3)).encode()).hexdigest()
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    there = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == here
