# SPDX-License-Identifier: Apache-2.0
"""The pages on methods: written from the code, and what they tell a newcomer to do works."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import SMALL

import unilogit_jax
from unilogit_jax.methods import METHODS
from unilogit_jax.run import read_json

ROOT = Path(unilogit_jax.__file__).parents[1]
DOCS = ROOT / "docs"


def test_the_list_of_methods_is_what_the_code_says_now(script):
    made = script("methods_page")
    assert made.PAGE.read_text() == made.page(), "run python scripts/methods_page.py"
    assert re.findall(r"^### `(\w+)`$", made.page(), re.M) == list(METHODS)


def words(*command, cwd):
    env = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=cwd, env=env
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that docs/add-a-method.md tells a reader to write."""
    folder = tmp_path_factory.mktemp("newcomer")
    page = (DOCS / "add-a-method.md").read_text()
    for code in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S):
        name = re.match(r"# (\w+\.py)\n", code)[1]
        (folder / name).write_text(code)
    assert sorted(p.name for p in folder.iterdir()) == ["my_file.py", "test_my_file.py"]
    return folder


def test_the_newcomers_test_passes_and_can_fail(folder):
    assert "2 passed" in words("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder)
    right = (folder / "my_file.py").read_text()
    try:
        (folder / "my_file.py").write_text(
            right.replace("softplus(-log_odds)", "softplus(log_odds)")
        )
        with pytest.raises(AssertionError, match="2 failed"):
            words("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder)
    finally:
        (folder / "my_file.py").write_text(right)


@pytest.mark.slow
def test_the_newcomers_method_runs_is_compared_and_goes_on(folder):
    page = (DOCS / "add-a-method.md").read_text()
    commands = [line.split("#")[0] for line in page.splitlines() if line.startswith("unilogit ")]
    shown = words("-m", "unilogit_jax", *commands[0].split()[1:], cwd=folder)
    assert "target = 0.01   (number > 0 and < 1)" in shown and "counts as forgotten" in shown
    run = folder / "run"
    words(
        "-m", "unilogit_jax", *commands[1].split()[1:], *SMALL, "finetune.steps=20",
        'compare=[{name: "my_file:Fade", target: 0.5}]', "--out", str(run), cwd=folder,
    )  # fmt: skip
    assert "name: my_file:Fade\n" in (run / "config.yaml").read_text()
    assert read_json(run / "summary.json")["method"] == "fade"
    stages = {path.name for path in (run / "checkpoints").iterdir()}
    assert {"unlearn", "unlearn-fade"} <= stages
    words("-m", "unilogit_jax", "unlearn", "--resume", str(run), cwd=folder)
