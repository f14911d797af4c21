# SPDX-License-Identifier: Apache-2.0
"""--quiet and --json: what a command prints for people, for machines, and not at all."""

import json
import os
from contextlib import redirect_stdout

import pytest

from unilogit_jax import cli, hosts, workflows
from unilogit_jax.cli import _output
from unilogit_jax.config import load_config, make_config
from unilogit_jax.errors import DataError, Preempted
from unilogit_jax.methods import METHODS
from unilogit_jax.metrics import Interval
from unilogit_jax.run import RunFolder, make_console, processes, write_json
from unilogit_jax.workflows.compare import Spread


@pytest.fixture(autouse=True)
def silencers_set(monkeypatch):
    for name in _output._SILENCERS:
        monkeypatch.setenv(name, "1")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """`unilogit quickstart` as a workflow of no time, and the folder that it makes."""
    folder = RunFolder.create(tmp_path, "toy", config_yaml="", exact=tmp_path / "run")

    def quickstart(**options):
        console = make_console()
        console.log_to(folder.log)
        console.title("for people")
        console.warn("careful")
        console.table("t", ["a"], [["1"]])
        write_json(folder.summary, {"after.forget_probability": 0.5, "nothing": float("nan")})
        folder.set_status("done")
        return folder

    monkeypatch.setattr(workflows, "quickstart", quickstart)
    return folder


def printed_json(printed):
    """The one object on standard output."""
    assert printed.out.count("\n") == 1 and printed.out.endswith("\n")
    return json.loads(printed.out)


def test_transformers_advises_nobody_to_install_pytorch(run, monkeypatch, capfd):
    from transformers.utils import logging

    name = "TRANSFORMERS_NO_ADVISORY_WARNINGS"
    monkeypatch.setenv(name, "remembered for the end of the test")
    monkeypatch.delenv(name)

    def quickstart(**options):
        logging.get_logger("transformers").warning_advice("PyTorch was not found.")
        return run

    monkeypatch.setattr(workflows, "quickstart", quickstart)
    assert cli.main(["quickstart"]) == 0
    assert "PyTorch" not in "".join(capfd.readouterr())


def test_json_is_alone_on_standard_output_and_people_read_the_other(run, capfd):
    assert cli.main(["quickstart", "--json"]) == 0
    printed = capfd.readouterr()
    assert printed_json(printed) == {
        "run": str(run.path),
        "status": "done",
        "summary": {"after.forget_probability": 0.5, "nothing": None},
    }
    assert printed.err.startswith("for people\nwarning: careful\n")


def test_quiet_prints_nothing_and_logs_all(run, capfd):
    assert cli.main(["quickstart", "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")
    log = run.log.read_text()
    assert "for people" in log and "warning: careful" in log


def test_quiet_and_json_leave_the_object_alone(run, capfd):
    assert cli.main(["quickstart", "--json", "--quiet"]) == 0
    printed = capfd.readouterr()
    assert printed_json(printed)["status"] == "done" and printed.err == ""


def test_quiet_lets_errors_through(monkeypatch, capfd):
    def fail(**options):
        raise DataError("row 3 has no answer.")

    monkeypatch.setattr(workflows, "quickstart", fail)
    assert cli.main(["quickstart", "--quiet"]) == 2
    assert capfd.readouterr() == ("", "row 3 has no answer.\n")


def test_after_a_command_standard_output_is_what_it_was(run, capsys):
    for option in ("--quiet", "--json"):
        cli.main(["quickstart", option])
        capsys.readouterr()
        print("here")
        assert capsys.readouterr().out == "here\n"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (DataError("row 3 has no answer."), 2, "row 3 has no answer."),
        (Preempted("saved."), 143, "saved."),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("division by zero"), 1, "division by zero"),
    ],
)
def test_an_error_is_an_object_with_its_exit_code(monkeypatch, capsys, error, code, said):
    def fail(**options):
        raise error

    monkeypatch.setattr(workflows, "quickstart", fail)
    if code == 1:
        with pytest.raises(ZeroDivisionError):
            cli.main(["quickstart", "--json"])
    else:
        assert cli.main(["quickstart", "--json"]) == code
    printed = capsys.readouterr()
    expected = {"error": said, "kind": type(error).__name__, "exit_code": code}
    assert printed_json(printed) == expected
    assert printed.err == ("" if code == 1 else f"{said}\n")


@pytest.mark.parametrize(
    "words", [["lss", "--json"], ["ls", "config", "--json"], ["ls", "--json", "--jsno"]]
)
def test_mistakes_in_the_command_itself_are_objects_too(capsys, words):
    assert cli.main(words) == 2
    printed = capsys.readouterr()
    assert printed_json(printed)["error"] == printed.err.strip()


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_takes_json_and_quiet_where_something_is_left(capsys, verb):
    assert cli.main([verb, "-h"]) == 0
    text = capsys.readouterr().out
    assert "--json" in text
    alone = ("ls", "show", "compare", "doctor", "completion")
    assert ("--quiet" in text) == (verb not in alone)


def test_listing_verbs_give_their_data_and_no_lines(capsys):
    found = {}
    for words in (
        ["ls"],
        ["ls", "methods"],
        ["show", "toy"],
        ["show", "method", "npo"],
        ["doctor"],
    ):
        assert cli.main([*words, "--json"]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        found[" ".join(words)] = printed_json(printed)
    assert set(found["ls"]) == {"configs", "methods", "benchmarks", "models"}
    assert [row["name"] for row in found["ls methods"]["methods"]] == list(METHODS)
    assert make_config(found["show toy"]) == load_config("toy")
    keys = {key["name"]: key["default"] for key in found["show method npo"]["keys"]}
    assert keys["beta"] == "0.1"
    assert "jax" in found["doctor"]["versions"] and "devices" in found["doctor"]["devices"]


def test_numbers_of_several_runs_are_objects_by_column(monkeypatch, capsys):
    several = Spread(0.5, 0.1, 2, Interval(0.5, 0.4, 0.6))
    spreads = {"before": {"forget_probability": Spread(0.5, None, 1)}, "npo": {"x": several}}
    monkeypatch.setattr(workflows, "compare", lambda runs: spreads)
    assert cli.main(["compare", "a", "b", "--json"]) == 0
    found = printed_json(capsys.readouterr())
    one = {"mean": 0.5, "deviation": None, "runs": 1, "interval": None}
    assert found["before"] == {"forget_probability": one}
    assert found["npo"]["x"]["interval"] == {"value": 0.5, "low": 0.4, "high": 0.6}


def test_a_plan_says_whether_it_fits_and_how_many_bytes(capsys):
    assert cli.main(["plan", "toy", "--no-compile", "eval.gold=false", "--json"]) == 0
    printed = capsys.readouterr()
    found = printed_json(printed)
    assert found["fits"] is None and set(found["bytes"]) == {"target", "unlearn"}
    assert [stage["name"] for stage in found["stages"]] == ["target", "unlearn"]
    assert "stage unlearn" in printed.err


def test_of_several_processes_the_first_one_prints_the_object(run, capsys, monkeypatch):
    monkeypatch.setattr(hosts, "is_first", lambda: False)
    assert cli.main(["quickstart", "--json"]) == 0
    assert cli.main(["lss", "--json"]) == 2
    assert capsys.readouterr().out == ""


def test_quiet_silences_the_warnings_of_the_other_processes(capfd, monkeypatch):
    monkeypatch.setattr(processes, "process_number", lambda: 1)
    make_console().warn("heard")
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        make_console().warn("not heard")
    assert capfd.readouterr() == ("", "process 1: warning: heard\n")
