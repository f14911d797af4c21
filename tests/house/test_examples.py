# SPDX-License-Identifier: Apache-2.0
"""The documentation's examples run as they stand, and forget what they say they do."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.mark.parametrize("name", ["bare_loop.py", "nnx_teacher.py", "equinox_model.py"])
def test_an_example_forgets_its_forget_rows_and_nothing_else(name):
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(EXAMPLES / name)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    numbers = re.findall(r"^(\w+) .*forget ([\d.]+)  retain ([\d.]+)$", out, re.MULTILINE)
    (_, forget, retain), (_, forgot, kept) = numbers
    assert float(forget) < 0.1 and float(forgot) > 3
    assert float(retain) < 0.1 and float(kept) < 0.1
