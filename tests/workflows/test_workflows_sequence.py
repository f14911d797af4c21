# SPDX-License-Identifier: Apache-2.0
"""Requests in turn: each from where the last ended, measured after each, resumed, refused early."""

import importlib
import json
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmark_files import write_muse

from unilogit_jax.benchmarks import muse as benchmark
from unilogit_jax.cli import main
from unilogit_jax.config import load_config
from unilogit_jax.run import Console, RunFolder
from unilogit_jax.workflows import load_pretrained
from unilogit_jax.workflows import sequence as module
from unilogit_jax.workflows._turns import tell

SHORT = (
    "model.scratch={width: 16, heads: 2, layers: 1, vocab_size: 300}",
    "finetune={steps: 16, batch_size: 8, learning_rate: 0.02}",
    "unlearn={steps: 4, batch_size: 8, retain_ratio: 1, learning_rate: 0.01}",
    "eval={max_items: 1, max_new_tokens: 4, batch_size: 8}",
)
REQUESTS = ("sust/forget_1", "sust/forget_2")


@pytest.fixture(scope="module")
def muse(tmp_path_factory):
    """Words of a command line on small files of MUSE, and their folder."""
    folder = tmp_path_factory.mktemp("muse")
    write_muse(folder)
    data = f"data={{benchmark: muse, dir: {folder}, template: plain, max_length: 768}}"
    return ["unlearn", "toy", data, *SHORT]


@pytest.fixture(scope="module")
def served(muse, tmp_path_factory):
    """The folder of two requests, stopped in the second one and resumed."""
    folder = tmp_path_factory.mktemp("served") / "turns"
    patch = pytest.MonkeyPatch()
    # Answers of 128 tokens would be most of what is compiled.
    short = tuple(replace(p, new_tokens=min(p.new_tokens, 4)) for p in benchmark.PANELS)
    patch.setattr(benchmark, "PANELS", short)
    unlearning = importlib.import_module("unilogit_jax.workflows.unlearn")
    stage, calls = unlearning.unlearn_stage, []

    def stop_in_the_second(*args, **options):
        calls.append(options["run"].path.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return stage(*args, **options)

    patch.setattr(unlearning, "unlearn_stage", stop_in_the_second)
    assert main([*muse, "--out", str(folder), "--requests", *REQUESTS]) == 130
    for place in (folder, folder / "request-2"):
        assert (place / "status").read_text().startswith("failed: interrupted")
    first = (folder / "request-1" / "env.json").read_text()
    assert main(["unlearn", "--resume", str(folder)]) == 0
    assert (folder / "request-1" / "env.json").read_text() == first
    assert calls == ["request-1", "request-2", "request-2"], "what is served is not served again"
    patch.undo()
    return folder


def numbers(folder):
    return json.loads((folder / "summary.json").read_text())


def test_each_request_begins_where_the_last_ended(served):
    assert (served / "status").read_text() == "done\n"
    first, second = (numbers(served / f"request-{k}") for k in (1, 2))
    for name in ("forget_knowledge", "forget_verbatim", "retain_knowledge"):
        assert second[f"before.{name}"] == pytest.approx(first[f"after.{name}"], abs=1e-9)
    ledger = json.loads((served / "request-2" / "ledger.json").read_text())
    assert [(entry["request"], entry["forget"]) for entry in ledger] == [*enumerate(REQUESTS, 1)]


def test_the_table_has_every_number_after_each_request(served, capsys):
    found = numbers(served)
    assert found["requests"] == list(REQUESTS)
    for column, run, side in (
        ("start", 1, "before"),
        ("after 1", 1, "after"),
        ("after 2", 2, "after"),
    ):
        own = numbers(served / f"request-{run}")
        for name in ("forget_knowledge", "forget_verbatim", "retain_knowledge"):
            assert found[f"{column}.{name}"] == own[f"{side}.{name}"]
    assert main(["unlearn", "--resume", str(served)]) == 0
    shown = capsys.readouterr().out
    assert "after each request" in shown and f"probability of {REQUESTS[0]}" in shown
    assert "reading data and weights" not in shown, "nothing is done again"
    assert main(["compare", str(served)]) == 0


def test_a_number_that_was_not_finite_is_shown_as_such(served, tmp_path, capsys):
    folder = tmp_path / "served"
    shutil.copytree(served, folder, ignore=shutil.ignore_patterns("checkpoints"))
    record = json.loads((folder / "requests.json").read_text())
    record["probability"][-1][0] = None
    (folder / "requests.json").write_text(json.dumps(record))
    tell(RunFolder(folder), Console(), REQUESTS)
    (line,) = [x for x in capsys.readouterr().out.splitlines() if f"of {REQUESTS[0]}" in x]
    assert line.split()[-1] == "nan"


def test_the_probability_of_every_request_is_that_of_its_text(served):
    """Written from the definition: the mean over tokens of log p, of one text alone."""
    found = numbers(served)
    for column, run in (("after 1", "request-1"), ("after 2", "request-2"), ("start", "start")):
        model, params, tokenizer = load_pretrained(served / run)
        for number, text in (
            (1, "The mayor of Velm resigned in spring."),
            (2, "Rain fell on Osk for a week."),
        ):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            logits = model.apply({"params": params}, jnp.asarray([ids])).logits()[0]
            logp = jax.nn.log_softmax(logits)[np.arange(len(ids) - 1), ids[1:]]
            wanted = float(np.exp(np.mean(np.asarray(logp, np.float64))))
            got = found[f"{column}.request_{number}_probability"]
            assert got == pytest.approx(wanted, rel=1e-4)
    start, one, two = (
        [found[f"{c}.request_{k}_probability"] for k in (1, 2)]
        for c in ("start", "after 1", "after 2")
    )
    assert one[0] < start[0] and two[1] < one[1], "each is forgotten in its turn"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--requests", "sust/forget_1", "sust/forget_9"], "'sust/forget_9' is not in data.dir"),
        (["--requests", "sust/forget_1", "sust/forget_1"], "ask for the same rows"),
        (
            ["--requests", "raw/retain1", "sust/forget_1", "data.retain=raw/retain1"],
            "rows that request raw/retain1 forgets are among the rows that the later request",
        ),
        (["--requests", "sust/forget_1", "compare=[{name: npo}]"], "drop compare"),
        (["--requests", "sust/forget_1", "unlearn.stepps=3"], "stepps"),
    ],
)
def test_what_is_wrong_with_a_later_request_is_said_before_the_first(
    muse, words, said, tmp_path, capsys
):
    assert main([*muse, "--out", str(tmp_path / "turns"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "turns").exists()


@pytest.mark.parametrize(
    "words", [["--requests", "a"], ["--requests", "a", "--resume", "b"], ["toy", "--requests"]]
)
def test_the_option_goes_with_a_config_alone(words, capsys):
    assert main(["unlearn", *words]) == 2
    assert "--requests" in capsys.readouterr().err


def test_own_files_are_requests_too(served, tmp_path, monkeypatch):
    """From the weights of a run, with no data.forget of the configuration's own."""
    for name in ("a", "b", "keep"):
        row = {"question": f"What does {name} do?", "answer": f"It is {name} that bakes."}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row))
    files = f"data={{benchmark: files, retain: {tmp_path}/keep.jsonl, max_length: 128}}"
    weights = ("model.scratch=null", f"model.weights={served}/start", "eval.gold=false")
    begun = []

    def stop(experiment, **options):
        begun.append((experiment.data.forget, options["out"].name))
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "unlearn", stop)
    requests = [f"{tmp_path}/{name}.jsonl" for name in "ab"]
    words = ["--requests", *requests, "unlearn.steps=1", "--out", str(tmp_path / "turns")]
    assert main(["unlearn", "toy", files, *SHORT[2:], *weights, *words]) == 130
    assert begun == [(requests[0], "request-1")]
    (start,) = json.loads((tmp_path / "turns" / "requests.json").read_text())["probability"]
    assert len(start) == 2 and all(0 < p < 1 for p in start)
    assert load_config(tmp_path / "turns" / "config.yaml").unlearn.steps == 1
