# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for gcloud, srun and kubectl that write down how they were called."""

import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

RECORDER = """#!{python}
import json, sys
with open({log!r}, "a") as file:
    file.write(json.dumps([{name!r}, *sys.argv[1:]]) + "\\n")
if {stdin!r}:
    with open({stdin!r}, "w") as file:
        file.write(sys.stdin.read())
sys.exit({code})
"""


@dataclass
class Stubs:
    """Programs that are found before all others."""

    bin: Path

    @property
    def log(self) -> Path:
        return self.bin.parent / "calls.jsonl"

    def add(self, name, *, code=0, stdin=""):
        """A program that notes its arguments and ends with `code`."""
        fields = {"python": sys.executable, "log": str(self.log), "name": name, "code": code}
        return self.script(name, RECORDER.format(stdin=str(stdin), **fields))

    def script(self, name, text):
        """A program of this text."""
        path = self.bin / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def calls(self):
        """The command lines so far."""
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def run(self, *words, cwd=None, **env):
        """A command that sees these programs first."""
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
        return subprocess.run(
            [str(word) for word in words],
            env=clean | {"PATH": path} | {k: str(v) for k, v in env.items()},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def stubs(tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    return Stubs(folder)
