# SPDX-License-Identifier: Apache-2.0
"""The command line: verbs, exit codes, one message per mistake, and a fast start."""

import errno
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest
import yaml
from cli_refused import refused

import unilogit_jax
from unilogit_jax import cli, workflows
from unilogit_jax.cli import _jax
from unilogit_jax.config import config_names, config_path, load_config
from unilogit_jax.errors import DataError

ROOT = Path(unilogit_jax.__file__).parents[1]


@pytest.fixture
def calls(monkeypatch):
    """Replaces the workflows by recorders that take the same arguments."""
    made = []
    verbs = ("quickstart", "finetune", "unlearn", "evaluate", "ask", "export", "plan", "resume")
    for name in verbs:
        monkeypatch.setattr(workflows, name, recorder(name, getattr(workflows, name), made))
    return made


def recorder(name, real, made):
    """Refuses what the real function's signature refuses, and notes the rest."""

    def record(*args, **kwargs):
        inspect.signature(real).bind(*args, **kwargs)
        made.append((name, args, kwargs))

    return record


def python(*words: str, **environment: str) -> subprocess.CompletedProcess:
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=env)


@pytest.mark.parametrize("words", [["-h"], ["--help"], ["help"], []])
def test_help_lists_every_verb(capsys, words):
    assert cli.main(words) == 0
    listed = re.findall(r"^  (\S+)  +\S", capsys.readouterr().out, re.MULTILINE)
    assert listed == list(cli.VERBS)


def test_every_file_is_a_verb_and_every_verb_a_file():
    files = {p.stem for p in Path(cli.__file__).parent.glob("*.py") if not p.stem.startswith("_")}
    assert files == {module for module, _ in cli.VERBS.values()}


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_explains_itself(capsys, verb):
    assert cli.main([verb, "-h"]) == 0
    assert f"usage: unilogit {verb}" in capsys.readouterr().out


def test_help_and_import_load_no_heavy_library():
    heavy = "{'jax', 'numpy', 'yaml', 'pydantic', 'transformers', 'rich'} & set(sys.modules)"
    verbs = "; ".join(f"main(['{verb}', '-h'])" for verb in cli.VERBS)
    done = python(
        "-c",
        "import sys, unilogit_jax; from unilogit_jax.cli import main; main(['-h']); "
        f"{verbs}; print('loaded', sorted({heavy}))",
    )
    assert done.stdout.splitlines()[-1] == "loaded []", done.stderr


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"unilogit_jax {unilogit_jax.__version__}\n"


def test_a_mistyped_verb_is_answered_with_the_right_one(capsys):
    assert "no verb 'unlern'. Did you mean 'unlearn'?" in refused(capsys, "unlern", "toy")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--verson"], "no option '--verson'."),
        (["unlearn", "toy", "--otu", "x"], "unknown argument '--otu'. Did you mean '--out'?"),
        (["unlearn", "toy", "--ou", "x"], "unknown argument '--ou'."),
        (["unlearn"], "name a config"),
        (["unlearn", "unlearn.steps=1"], "name the config before 'unlearn.steps=1'"),
        (["unlearn", f"name={'x' * 400}"], "name the config before 'name=xxx"),
        (["unlearn", "toy", "--resume", "run"], "drop CONFIG"),
        (["finetune", "toy", "finetune.step=1"], "override  unknown key 'finetune.step'."),
        (["evaluate"], "required: RUN|FOLDER|HUB_ID"),
        (["ask", "run"], "required: QUESTION."),
        (["export", "run", "out", "--dtype", "float16"], "invalid choice: 'float16'"),
        (["ls", "config"], "no list 'config'. Did you mean 'configs'?"),
        (["show", "tpy"], "Did you mean 'toy'?"),
        (["show", "toy", "x=1"], "override  unknown key 'x'."),
        (["show", "method", "npoo"], "unknown method 'npoo'. Did you mean 'npo'?"),
        (["show", "method", "none:X"], "the method 'none:X' cannot be imported from"),
        (["show", "method"], "name one method, such as 'unilogit show method npo'"),
        (["cp", "tpy", "x.yaml"], "Did you mean 'toy'?"),
    ],
)
def test_a_mistake_gets_one_message_and_exit_code_2(capsys, calls, words, expected):
    assert expected in refused(capsys, *words)
    assert calls == []


def test_verbs_call_their_workflows(calls):
    commands = [
        "quickstart",
        "quickstart --compare --out d",
        "evaluate r",
        "evaluate m --benchmark tofu --split forget10 --data d eval.seed=5 --reference l --out o",
        "evaluate b --whp r --alpha 2",
        "ask r one two",
        "ask r one --whp s",
        "export r o",
        "export r o --stage gold --dtype bfloat16",
        "unlearn --resume r",
        "finetune --resume r",
    ]
    for command in commands:
        assert cli.main(command.split()) == 0
    assert calls == [
        ("quickstart", (), {"compare": False, "out": None}),
        ("quickstart", (), {"compare": True, "out": Path("d")}),
        ("evaluate", ("r",), {"whp": None, "alpha": None, "out": None}),
        (
            "evaluate",
            (
                "m",
                'data.benchmark="tofu"',
                'data.forget="forget10"',
                'data.dir="d"',
                'eval.reference="l"',
                "eval.seed=5",
            ),
            {"whp": None, "alpha": None, "out": Path("o")},
        ),
        ("evaluate", ("b",), {"whp": "r", "alpha": 2.0, "out": None}),
        ("ask", (Path("r"), ["one", "two"]), {"whp": None, "alpha": None}),
        ("ask", (Path("r"), ["one"]), {"whp": "s", "alpha": None}),
        ("export", ("r", Path("o")), {"stage": None, "dtype": None, "adapter": False}),
        ("export", ("r", Path("o")), {"stage": "gold", "dtype": "bfloat16", "adapter": False}),
        ("resume", (Path("r"),), {"profile": False}),
        ("resume", (Path("r"),), {"profile": False}),
    ]


@pytest.mark.parametrize("verb", ["unlearn", "finetune"])
def test_overrides_may_stand_on_both_sides_of_an_option(calls, verb):
    assert cli.main([verb, "toy", "name=a", "--out", "d", "method.name=npo"]) == 0
    ((name, (experiment,), options),) = calls
    assert (name, experiment.name, experiment.method.name) == (verb, "a", "npo")
    assert options["out"] == Path("d") and "dropped direction, tau" in options["notes"][0]


def test_errors_for_users_show_no_traceback_and_our_own_do(monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise DataError("row 3 has no answer.")

    monkeypatch.setattr(workflows, "quickstart", fail)
    assert refused(capsys, "quickstart") == "row 3 has no answer."
    monkeypatch.setattr(workflows, "quickstart", lambda **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["quickstart"])


def test_ctrl_c_ends_with_one_line_and_130(monkeypatch, capsys):
    def interrupt(**kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(workflows, "quickstart", interrupt)
    assert cli.main(["quickstart"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_the_process_exits_with_the_code():
    assert python("-m", "unilogit_jax", "--version").returncode == 0
    assert python("-m", "unilogit_jax", "unlern").returncode == 2
    assert python(str(ROOT / "scripts/unlearn.py"), "--resume").returncode == 2


@pytest.mark.parametrize("script", ["unlearn", "finetune", "evaluate"])
def test_a_script_is_the_verb_of_its_name(script):
    done = python(str(ROOT / f"scripts/{script}.py"), "-h")
    assert done.returncode == 0 and f"usage: unilogit {script}" in done.stdout


def test_a_reader_that_leaves_early_gets_no_traceback():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "unilogit_jax", "-h"]
    done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_compiled_programs_are_kept_where_they_can_be(monkeypatch, tmp_path):
    settings = {}
    monkeypatch.setattr(jax.config, "update", settings.__setitem__)
    monkeypatch.setenv("UNILOGIT_CACHE", str(tmp_path / "a/b"))
    _jax.use_compilation_cache()
    assert settings == {}, "JAX's own variable wins"
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    _jax.use_compilation_cache()
    assert settings == {
        "jax_compilation_cache_dir": str(tmp_path / "a/b"),
        "jax_persistent_cache_min_compile_time_secs": 0.5,
    }
    assert (tmp_path / "a/b").is_dir()
    settings.clear()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UNILOGIT_CACHE", str(tmp_path / "file/c"))
    _jax.use_compilation_cache()
    assert settings == {}


def test_the_header_of_every_config_names_a_command_that_loads():
    for name in config_names():
        path = config_path(name)
        commands = re.findall(
            r"^# .*unilogit (?:unlearn|finetune) (.+?)(?:  .*)?$", path.read_text(), re.M
        )
        assert commands, path
        for command in commands:
            load_config(*command.split())
        assert yaml.safe_load(path.read_text())["name"] == name.replace("/", "-")


def test_a_place_that_the_system_refuses_is_no_traceback(monkeypatch, capsys):
    def refused(_):
        raise PermissionError(errno.EACCES, "Permission denied", "/there/tokenizer.json")

    monkeypatch.setattr(cli, "_dispatch", refused)
    assert cli.main(["ls"]) == 2
    said = capsys.readouterr().err
    assert said == "/there/tokenizer.json cannot be used: Permission denied.\n"


def test_what_an_error_quotes_reaches_the_terminal_without_its_escape_sequences(
    monkeypatch, capsys
):
    def refused(_):
        raise DataError("no row \x1b]0;title\x07 here\nand so on")

    monkeypatch.setattr(cli, "_dispatch", refused)
    assert cli.main(["ls"]) == 2
    assert capsys.readouterr().err == "no row ]0;title here\nand so on\n"
