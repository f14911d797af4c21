# SPDX-License-Identifier: Apache-2.0
"""Verbs that only look: show, ls, cp, doctor."""

import dataclasses
import inspect
import re
from pathlib import Path

import jax
import pytest
from cli_refused import refused

from unilogit_jax import cli
from unilogit_jax.config import config_path, load_config
from unilogit_jax.methods import METHODS


def test_show_prints_a_config_that_loads(capsys, tmp_path):
    assert cli.main(["show", "toy", "method.name=npo"]) == 0
    printed = capsys.readouterr()
    (tmp_path / "shown.yaml").write_text(printed.out)
    assert load_config(tmp_path / "shown.yaml") == load_config("toy", "method.name=npo")
    assert printed.err.startswith("note: method unilogit -> npo; dropped")


@pytest.mark.parametrize("name", METHODS)
def test_show_method_explains_every_method(capsys, name):
    assert cli.main(["show", "method", name]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{name}: ") and "\nneeds\n" in printed
    for field in dataclasses.fields(METHODS[name]):
        if field.name != "name":
            (meaning,) = re.findall(rf"^  {field.name} = .*\n      (\S)", printed, re.MULTILINE)
            assert meaning, field.name
    assert re.search(r"^    \S.* = ", printed, re.MULTILINE), "no formula"
    assert re.search(r"^paper  https://arxiv.org/abs/\d{4}\.\d{5}$", printed, re.MULTILINE)


def test_show_method_says_what_is_needed_and_how_far_values_may_go(capsys):
    assert cli.main(["show", "method", "npo"]) == 0
    printed = capsys.readouterr().out
    assert "  beta = 0.1   (number > 0)\n      Inverse temperature;" in printed
    assert "needs\n  the start model's log-odds of the labels of forget answers\n" in printed
    assert "    L = -(2/beta) mean_i log sigmoid(" in printed
    assert cli.main(["show", "method", "unilogit"]) == 0
    assert "needs\n  nothing but the model that is trained\n" in capsys.readouterr().out


def test_show_method_takes_one_of_your_own(capsys, tmp_path, monkeypatch):
    (tmp_path / "own_cli.py").write_text(
        "from dataclasses import dataclass\nfrom unilogit_jax.methods import Unlearning\n"
        "@dataclass(frozen=True, kw_only=True)\nclass Mine(Unlearning):\n"
        '    strength: float\n    """How much."""\n'
    )
    monkeypatch.chdir(tmp_path)
    assert cli.main(["show", "method", "own_cli:Mine"]) == 0
    printed = capsys.readouterr().out
    assert "  strength = required   (number)\n      How much.\n" in printed
    assert "whatever the fields ask for" in printed and "paper" not in printed


def test_cp_copies_and_never_overwrites(capsys, tmp_path):
    dest = tmp_path / "mine.yaml"
    assert cli.main(["cp", "toy", str(dest)]) == 0
    assert dest.read_bytes() == config_path("toy").read_bytes()
    dest.write_text("precious")
    capsys.readouterr()
    assert "never overwritten" in refused(capsys, "cp", "toy", str(dest))
    assert dest.read_text() == "precious"


def test_cp_into_a_folder_keeps_the_name_and_makes_no_folder(capsys, tmp_path):
    assert cli.main(["cp", "toy", str(tmp_path)]) == 0
    capsys.readouterr()
    assert "never overwritten" in refused(capsys, "cp", "toy", str(tmp_path))
    assert "no folder" in refused(capsys, "cp", "toy", f"{tmp_path}/none/")
    assert "cannot be written" in refused(capsys, "cp", "toy", f"{tmp_path}/none/x.yaml")
    assert [p.name for p in tmp_path.iterdir()] == ["toy.yaml"]


def test_ls_describes_everything_it_lists(capsys):
    for what, key in [
        ("configs", "toy"),
        ("methods", "npo"),
        ("benchmarks", "tofu"),
        ("models", "llama"),
    ]:
        assert cli.main(["ls", what]) == 0
        rows = capsys.readouterr().out.splitlines()
        assert any(row.split()[0] == key for row in rows)
        assert all(len(row.split()) > 3 for row in rows)
    assert cli.main(["ls"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "configs"


def test_ls_methods_is_the_table_with_papers_in_columns(capsys):
    assert cli.main(["ls", "methods"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == list(METHODS)
    firsts = [(inspect.getdoc(method) or "").partition("\n")[0] for method in METHODS.values()]
    (start,) = {row.index(first) for row, first in zip(rows, firsts, strict=True)}
    papers = [row[:start].split()[1] for row in rows]
    assert papers[list(METHODS).index("npo")] == "arXiv:2404.05868"


def test_doctor_reports_and_survives_a_machine_without_devices(monkeypatch, capsys):
    def broken():
        raise RuntimeError("no backend\nlong story")

    assert cli.main(["doctor"]) == 0
    assert f"jax                {jax.__version__}" in capsys.readouterr().out
    monkeypatch.setattr(jax, "devices", broken)
    monkeypatch.setattr(Path, "home", broken)
    monkeypatch.delenv("UNILOGIT_CACHE", raising=False)
    assert cli.main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "none usable: RuntimeError: no backend\n" in printed and "no home folder" in printed
