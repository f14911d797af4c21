# SPDX-License-Identifier: Apache-2.0
"""Methods of one's own in a configuration: found, checked like the table's, and read back."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import unilogit_jax
from unilogit_jax.config import (
    Experiment,
    dump_config,
    load_config,
    method_class,
    method_label,
    method_name,
    read_config,
)
from unilogit_jax.errors import ConfigError
from unilogit_jax.methods import METHODS, Npo
from unilogit_jax.workflows._advice import settings_of

MINE = '''
from __future__ import annotations
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal
from annotated_types import Gt, Lt
from unilogit_jax.methods import Needs, Unlearning, set_mean, with_retain


@dataclass(frozen=True, kw_only=True)
class Fade(Unlearning):
    """Fades."""

    target: Annotated[float, Gt(0), Lt(1)] = 0.01
    times: int = 2
    gently: bool = False


@dataclass(frozen=True, kw_only=True)
class Called:
    needs: ClassVar[Needs] = Needs()
    beta: float = 1.0

    def __call__(self, stats, state):
        return with_retain(set_mean(stats.log_odds, stats, 1), stats, 1.0)


@dataclass(frozen=True, kw_only=True)
class Named(Called):
    name: Literal["something"] = "something"


class Gold(Fade):
    pass


@dataclass(frozen=True, kw_only=True)
class Before(Unlearning):
    pass


@dataclass
class Thawed:
    beta: float = 1.0


@dataclass(frozen=True)
class Silent:
    beta: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Riddle(Unlearning):
    what: Nonsense = 1


@dataclass(frozen=True, kw_only=True)
class Odd(Unlearning):
    what: object = field(default=None)
    how: map = None


VALUE = 3
'''
ROOT = Path(unilogit_jax.__file__).parents[1]
CONFIG = "name: small\nmodel: {scratch: {}}\ndata: {benchmark: toy}\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The working directory, with a file of methods and a package that has one."""
    (tmp_path / "mine_e.py").write_text(MINE)
    (tmp_path / "pkg_e").mkdir()
    (tmp_path / "pkg_e" / "inner.py").write_text(MINE)
    (tmp_path / "broken_e.py").write_text("x = 1\ny = x / 0\n")
    (tmp_path / "wrong_e.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [n for n in sys.modules if n.partition(".")[0].endswith("_e")]:
        del sys.modules[name]


def lines(*words):
    with pytest.raises(ConfigError) as caught:
        load_config(*words)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


@pytest.mark.parametrize("name", ["mine_e:Fade", "pkg_e.inner:Fade"])
def test_a_method_of_ones_own_is_read_and_written_like_any_other(here, name):
    loaded = read_config("toy", f"method.name={name}", "method.target=0.1", "compare=[{name: npo}]")
    method = loaded.experiment.method
    assert type(method).__name__ == "Fade" and (method.target, method.retain_weight) == (0.1, 4.0)
    assert loaded.notes == (
        f"method unilogit -> {name}; dropped direction, tau, tau_weights, tau_names, tau_mean, "
        "alternatives, top_k, select, unit; kept from the file: retain_weight 4.0",
    )
    (here / "config.yaml").write_text(dump_config(loaded.experiment))
    written = yaml.safe_load((here / "config.yaml").read_text())["method"]
    assert next(iter(written)) == "name" and written["name"] == name
    assert load_config("config.yaml") == loaded.experiment
    assert settings_of(loaded.experiment, "unlearn", method)["method.name"] == name
    assert str(here) not in sys.path


@pytest.mark.parametrize("name", ["Fade", "Called", "Named"])
def test_neither_a_base_class_nor_a_name_is_asked_for_and_compare_takes_them_too(here, name):
    text = f"{CONFIG}method: {{name: 'mine_e:{name}'}}\ncompare: [{{name: 'mine_e:{name}'}}]\n"
    (here / "a.yaml").write_text(text)
    experiment = load_config("a.yaml")
    assert type(experiment.method).__name__ == name and experiment.compare == (experiment.method,)
    (here / "b.yaml").write_text(dump_config(experiment))
    assert load_config("b.yaml") == experiment
    assert method_label(experiment.method) == name.lower()


def test_all_mistakes_of_its_fields_come_at_once_with_their_lines(here):
    (here / "a.yaml").write_text(
        f"{CONFIG}method:\n  name: mine_e:Fade\n  targt: 1\n  target: 1\n  times: yes\n"
        "  gently: perhaps\n  forget_weight: -1\ncompare:\n- name: mine_e:Called\n  beta: x\n"
        "  bta: 1\nunlearn: {steps: 0}\n"
    )
    assert lines("a.yaml") == [
        "line 6  unknown key 'method.targt'. Did you mean 'target'?",
        "line 7  'method.target' wants a number below 1, got 1.",
        "line 8  'method.times' wants a whole number, got true.",
        "line 9  'method.gently' wants true or false, got 'perhaps'.",
        "line 10  'method.forget_weight' wants a number of at least 0, got -1.",
        "line 13  'compare.0.beta' wants a number, got 'x'.",
        "line 14  unknown key 'compare.0.bta'. Did you mean 'beta'?",
        "line 15  'unlearn.steps' wants a number of at least 1, got 0.",
    ]


CLASS = r"write @dataclass\(frozen=True, kw_only=True\)"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none_e:Fade", "cannot be imported from .*: No module named 'none_e'."),
        ("mine_e:Fad", "cannot be imported from .*: module 'mine_e' has no attribute 'Fad'."),
        ("'mine_e:'", "cannot be imported"),
        (":Fade", "cannot be imported"),
        ("..mine_e:Fade", "cannot be imported"),
        ("broken_e:Fade", r"ZeroDivisionError: division by zero \(broken_e.py, line 2\)."),
        ("wrong_e:Fade", r"SyntaxError: .*\(wrong_e.py, line 1\)."),
        ("mine_e:VALUE", "is no method: it is a int, not a class."),
        ("mine_e:Gold", f"is no method: it is not a dataclass; {CLASS} above it."),
        ("mine_e:Thawed", f"is no method: it is a dataclass that is not frozen; {CLASS}."),
        ("mine_e:Silent", "is no method: it has no `needs` or no call; deriving it from Unlearn"),
        ("mine_e:Riddle", r"the type of a field has no meaning \(name 'Nonsense' is not defined"),
        ("mine_e:Odd", "the fields of the method Odd cannot be read from a file: "),
        ("3", "unknown method '3'. Methods: unilogit, "),
    ],
)
def test_what_is_no_method_gets_one_sentence(name, expected):
    (line,) = lines("toy", f"method.name={name}", "method.direction=reverse")
    assert re.search(f"^override  .*{expected}", line), line


def test_names_of_columns_are_not_taken_twice(here):
    text = "compare=[{name: npo}, {name: npo, beta: 1}, {name: 'mine_e:Before'}]"
    first, second = lines("toy", text)
    assert "several methods called npo" in first and "called before, which is another" in second


def test_labels_tell_methods_of_one_name_apart():
    text = "compare=[{name: npo}, {name: npo, beta: 1, label: npo-1}]"
    rivals = load_config("toy", text).compare
    assert [method_label(rival) for rival in rivals] == ["npo", "npo-1"]
    (line,) = lines("toy", "method.label=../up")
    assert "label '../up'" in line and "a folder's name" in line


def test_the_tables_classes_keep_their_short_names():
    for name, cls in METHODS.items():
        assert (method_name(cls()), method_label(cls())) == (name, name)
        assert method_class(f"{cls.__module__}:{cls.__name__}") is cls


def test_an_instance_is_taken_as_it_is():
    base = load_config("toy")
    method = method_class("mine_e:Fade")(target=0.5)
    values = {name: getattr(base, name) for name in Experiment.model_fields}
    assert Experiment(**values | {"method": method, "compare": (Npo(),)}).method is method


def test_the_schema_for_editors_knows_the_table():
    schema = Experiment.model_json_schema()
    tags = {ref["$ref"].rpartition("/")[2] for ref in schema["properties"]["method"]["oneOf"]}
    assert tags == {cls.__name__ for cls in METHODS.values()}
    assert "MethodConfig" not in json.dumps(schema)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("name=npo method.beta=-1", "'method.beta' wants a number above 0, got -1."),
        ("name=npo method.beta=0", "'method.beta' wants a number above 0, got 0."),
        ("name=undial method.beta=-1", "'method.beta' wants a number of at least 0, got -1."),
        ("retain_weight=-0.5", "'method.retain_weight' wants a number of at least 0, got -0.5."),
        ("forget_weight=-1", "'method.forget_weight' wants a number of at least 0, got -1."),
        ("tau=1", "'method': tau=1.0 is outside 0 < tau < 1."),
    ],
)
def test_hyper_parameters_out_of_range_are_refused_when_they_are_read(key, expected):
    (line,) = lines("toy", *f"method.{key}".split())
    assert line == f"override  {expected}"


def test_the_console_finds_it_in_the_working_directory(here):
    # As the installed program starts: without the working directory among the places to look.
    code = "import sys; from unilogit_jax.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-P", "-c", code]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    show = ["show", "toy", "method.name=mine_e:Fade"]
    done = subprocess.run([*command, *show], capture_output=True, text=True, cwd=here, env=env)
    assert done.returncode == 0 and "name: mine_e:Fade" in done.stdout, done.stderr
    show[2] = "method.name=mine_e:Fad"
    done = subprocess.run([*command, *show], capture_output=True, text=True, cwd=here, env=env)
    assert done.returncode == 2 and "Traceback" not in done.stderr
