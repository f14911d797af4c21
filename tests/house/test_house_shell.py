# SPDX-License-Identifier: Apache-2.0
"""Every shell script passes shellcheck."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
SCRIPTS = [
    *sorted((ROOT / "scripts").rglob("*.sh")),
    *sorted((ROOT / "scripts").rglob("*.sbatch")),
    *(ROOT / ".ci").glob("run"),
]


def check(path):
    # -x: into sourced files, which are named from the root.
    return subprocess.run(
        [SHELLCHECK, "-x", "--severity=style", path], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_shell_script_passes_shellcheck(path):
    done = check(path)
    assert done.returncode == 0, done.stdout


def test_shellcheck_finds_a_word_that_is_not_quoted(tmp_path):
    path = tmp_path / "wrong.sh"
    path.write_text("#!/bin/bash\nrm $1\n")
    assert "SC2086" in check(path).stdout


def test_the_launchers_are_among_the_scripts():
    names = {path.name for path in SCRIPTS}
    assert {"install.sh", "tpu_pod.sh", "start_or_resume.sh", "slurm.sbatch"} <= names
