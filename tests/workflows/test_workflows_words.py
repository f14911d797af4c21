# SPDX-License-Identifier: Apache-2.0
"""What a run says of its rows, of its answers, and of what to type next."""

import io
import shutil
import sys
from types import SimpleNamespace
from typing import Any

from unilogit_jax.data import Example, Task
from unilogit_jax.run import Console
from unilogit_jax.workflows import _results
from unilogit_jax.workflows._report_words import activation
from unilogit_jax.workflows._session import doubts_about


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


def test_answers_stand_one_below_the_other_whatever_the_columns_are_called(monkeypatch):
    answers = {"before": "one", "unlearned-longest": "two"}
    sound = dict.fromkeys(answers, False)
    row = SimpleNamespace(
        group="forget", question="?", truth="zero", answers=answers, malformed=sound
    )
    monkeypatch.setattr(_results, "answer_rows", lambda results: [row])
    monkeypatch.setattr(_results, "metric_rows", lambda summaries: [])
    printed = io.StringIO()
    results: Any = None
    _results.show(Console(stream=printed), "title", results, {name: {} for name in answers})
    lines = printed.getvalue().splitlines()
    places = [line.index(w) for w in ("zero", "one", "two") for line in lines if line.endswith(w)]
    assert places == [22, 22, 22]


def test_rows_to_forget_that_are_to_be_kept_too_are_counted():
    def task(retain):
        forget = (Example("Who?", "Ann.", "f:1"), Example("Who?", "Bo.", "f:2"), Example(None, "x"))
        return Task("mine", forget, retain, ())

    others = (Example("Who?", "Cy."), Example("x", "Ann."))
    assert list(doubts_about(task(others))) == []
    (said,) = doubts_about(task((*others, Example("Who?", "Bo.", "r:1"), Example(None, "x"))))
    assert said.startswith("2 of the 3 rows to forget are among the rows to keep too")
    (said,) = doubts_about(task(()))
    assert said.startswith("there are no rows to keep (data.retain)")
