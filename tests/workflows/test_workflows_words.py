# SPDX-License-Identifier: Apache-2.0
"""What a run says at its end of what to type next."""

import shutil
import sys

from unilogit_jax.workflows._report_words import activation


def test_where_a_shell_does_not_find_the_program_its_environment_is_named(tmp_path, monkeypatch):
    script = tmp_path / "checkout" / ".venv" / "bin" / "activate"
    script.parent.mkdir(parents=True)
    script.touch()
    monkeypatch.setattr(sys, "prefix", str(script.parent.parent))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert activation() == (". checkout/.venv/bin/activate",)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert activation() == (f". {script}",)


def test_nothing_is_said_where_the_program_is_found_or_there_is_nothing_to_activate(
    tmp_path, monkeypatch
):
    program = tmp_path / "unilogit"
    program.touch(mode=0o755)
    script = tmp_path / "bin" / "activate"
    script.parent.mkdir()
    script.touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("unilogit") and activation() == ()
    program.unlink()
    script.unlink()
    assert activation() == ()
