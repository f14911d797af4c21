# SPDX-License-Identifier: Apache-2.0
"""The documentation's examples run as they stand, and forget what they say they do."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


NAMES = ("bare_loop", "nnx_teacher", "equinox_model", "sharded_model", "trainer_loss")


@pytest.mark.parametrize("name", NAMES)
def test_an_example_forgets_its_forget_rows_and_nothing_else(name):
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(EXAMPLES / f"{name}.py")]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    numbers = re.findall(r"^(\w+) .*forget ([\d.]+)  retain ([\d.]+)$", out, re.MULTILINE)
    (_, forget, retain), (_, forgot, kept) = numbers
    assert float(forget) < 0.1 and float(forgot) > 3
    assert float(retain) < 0.1 and float(kept) < 0.1


def test_the_notebook_runs_from_the_first_cell_to_the_last(tmp_path):
    script = (
        "import sys, nbclient, nbformat\n"
        "notebook = nbformat.read(sys.argv[1], as_version=4)\n"
        "nbformat.validate(notebook)\n"
        "nbclient.NotebookClient(notebook, timeout=600).execute()\n"
        "nbformat.write(notebook, 'done.ipynb')\n"
    )
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    source = EXAMPLES / "notebook.ipynb"
    command = [sys.executable, "-c", script, str(source)]
    subprocess.run(command, check=True, cwd=tmp_path, env=env, capture_output=True)
    assert json.loads((tmp_path / "notebook-run/summary.json").read_text())["passed"]
    kinds = re.findall(r'"(image/png|text/html)":', (tmp_path / "done.ipynb").read_text())
    assert kinds.count("image/png") == 2
    assert '"outputs": []' in source.read_text() and "image/png" not in source.read_text()
