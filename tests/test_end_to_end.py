# SPDX-License-Identifier: Apache-2.0
"""The command line on real input: a whole run, its folder, resuming, exporting, and bad input."""

import hashlib
import json
import re
import shutil
import socket
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from read_only import read_only

from unilogit_jax import models, workflows
from unilogit_jax.cli import main
from unilogit_jax.config import load_config
from unilogit_jax.data import train_tokenizer
from unilogit_jax.errors import CheckpointError, WeightsError
from unilogit_jax.run import Console, RunFolder
from unilogit_jax.train import loop, weights_digest

TOFU = Path(__file__).parent / "data" / "tofu"
SMALL = (
    "model.scratch.width=32",
    "model.scratch.heads=2",
    "model.scratch.layers=1",
    "finetune.steps=10",
    "unlearn.steps=6",
    "eval.max_items=5",
    "eval.max_new_tokens=8",
    "output.checkpoint_every=2",
    "output.log_every=1",
)


def quiet():
    return Console(quiet=True)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished run of the toy benchmark, with gold and a rival, that opened no connection."""
    folder = tmp_path_factory.mktemp("runs") / "done"
    experiment = load_config("toy", *SMALL, "compare=[{name: npo}]")
    return workflows.unlearn(experiment, out=folder, console=quiet())


def digest(folder):
    files = sorted(p for p in Path(folder).rglob("*") if p.is_file())
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_a_run_leaves_everything_that_it_promises(done):
    path = done.path
    promised = ("env.json", "log.txt", "metrics.jsonl", "report.html", "model.json", "record.json")
    for name in promised:
        assert (path / name).stat().st_size > 0, name
    assert done.status == "done"
    env = json.loads((path / "env.json").read_text())
    assert env["ended"] and env["resumed"] == [], "an undisturbed run ended once and resumed never"
    assert {p.name for p in (path / "checkpoints").iterdir()} == {
        "target",
        "gold",
        "unlearn",
        "unlearn-npo",
    }
    assert {p.stem for p in (path / "eval").iterdir()} == {"before", "after", "gold", "npo"}
    assert {p.name for p in (path / "plots").iterdir()} >= {
        "bars.png",
        "curves.png",
        "tradeoff.png",
    }
    summary = json.loads((path / "summary.json").read_text())
    assert all(not isinstance(value, dict | list) for value in summary.values())
    assert {"passed", "after.forget_probability", "gold.retain_exact_match"} <= set(summary)
    assert load_config(path / "config.yaml") == load_config("toy", *SMALL, "compare=[{name: npo}]")


def test_a_folder_in_use_is_refused_and_left_as_it_is(done, capsys):
    before = digest(done.path)
    assert main(["unlearn", "toy", *SMALL, "--out", str(done.path)]) == 2
    assert str(done.path) in capsys.readouterr().err
    assert digest(done.path) == before


def test_evaluating_again_gives_the_same_numbers(done):
    summary = json.loads((done.path / "summary.json").read_text())
    again = workflows.evaluate(done.path, console=quiet())
    for column, numbers in again.items():
        for name, value in numbers.items():
            assert summary[f"{column}.{name}"] == pytest.approx(value, abs=1e-9), (column, name)


def test_the_report_is_made_again_from_the_folder_as_it_was(done):
    def page():
        text = done.report.read_text(encoding="utf-8")
        assert len(re.findall("This page was made on [^.]*", text)) == 1
        return re.sub("This page was made on [^.]*", "", text)

    first = page()
    assert main(["report", str(done.path)]) == 0
    assert page() == first


def test_what_the_record_says_of_work_and_weights(done):
    record = json.loads((done.path / "record.json").read_text())
    stages = record["stages"]
    planned = workflows.plan(load_config(done.config), compiled=False).stages
    assert {s.name: (s.updates, s.tokens, s.flops) for s in planned} == {
        name: tuple(one[key] for key in ("updates", "tokens", "flops"))
        for name, one in stages.items()
    }
    _, params, _ = workflows.load_pretrained(done.path)
    assert record["weights"]["after"] == weights_digest(params)
    assert len(set(record["weights"].values())) == 4 == len(stages)
    assert record["memory"]["host"] > 50e6 and record["devices"]["count"] == 8
    assert (
        record["data"]["forget"]["sha256"]
        == json.loads((done.path / "ledger.json").read_text())[-1]["sha256"]
    )


def test_asking_gives_an_answer_of_every_model(done, capsys):
    assert main(["ask", str(done.path), "Where does Ann live?"]) == 0
    shown = capsys.readouterr().out
    assert all(column in shown for column in ("before", "after", "gold", "npo"))


@pytest.mark.parity
def test_an_export_loads_in_transformers_with_the_same_logits(done, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = tmp_path / "exported"
    assert main(["export", str(done.path), str(out)]) == 0
    model, params, tokenizer = workflows.load_pretrained(done.path)
    _, again, _ = workflows.load_pretrained(out)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(again), strict=True):
        assert np.array_equal(a, b)
    ids = tokenizer("Question: Where does Ann live?\nAnswer:")["input_ids"]
    assert (
        AutoTokenizer.from_pretrained(out)("Where?")["input_ids"]
        == tokenizer("Where?")["input_ids"]
    )
    with torch.no_grad():
        wanted = AutoModelForCausalLM.from_pretrained(out)(torch.tensor([ids])).logits.numpy()
    got = model.apply({"params": params}, jnp.array([ids])).logits()
    assert np.abs(np.asarray(got) - wanted).max() <= 1e-5
    with pytest.raises(WeightsError, match="not empty"):
        workflows.export(done.path, out, console=quiet())


def test_an_interrupted_run_resumes_to_the_same_weights(done, tmp_path, monkeypatch):
    folder, calls = tmp_path / "run", []
    put = loop.put_batch

    def dying(batch, mesh):
        calls.append(1)
        if len(calls) == 10 + 10 + 4:  # in the fourth update of unlearning
            raise KeyboardInterrupt
        return put(batch, mesh)

    monkeypatch.setattr(loop, "put_batch", dying)
    experiment = load_config("toy", *SMALL)
    with pytest.raises(KeyboardInterrupt):
        workflows.unlearn(experiment, out=folder, console=quiet())
    assert RunFolder.open(folder).status == "failed: interrupted"
    monkeypatch.setattr(loop, "put_batch", put)
    run = workflows.resume(folder, console=quiet())
    assert run.status == "done"
    _, params, _ = workflows.load_pretrained(folder)
    _, wanted, _ = workflows.load_pretrained(done.path)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(wanted), strict=True):
        assert np.array_equal(a, b)
    lines = [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
    places = [(line["stage"], line["step"]) for line in lines]
    assert len(places) == len(set(places)) == 10 + 10 + 6


def test_a_damaged_checkpoint_is_one_sentence_and_exit_code_2(done, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(done.path, copy)
    files = [p for p in (copy / "checkpoints" / "unlearn").glob("*/params/**/*") if p.is_file()]
    largest = max(files, key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    assert main(["ask", str(copy), "Who?"]) == 2
    error = capsys.readouterr().err
    assert "checkpoint" in error and "damaged" in error and "Traceback" not in error
    with pytest.raises(CheckpointError):
        workflows.evaluate(copy, console=quiet())


def rows(path, lines):
    path.write_text(
        "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    )
    return path


QUESTION = {"question": "Where does Ann live?", "answer": "Ann lives in Oslo."}


@pytest.mark.parametrize(
    ("lines", "override", "words"),
    [
        ([QUESTION, "{broken"], "", ["line 2", "not valid JSON", "expected"]),
        ([], "", ["is empty"]),
        ([QUESTION], "data.max_length=8", ["forget.jsonl:1", "no answer token is left"]),
        ([QUESTION], "data.forget=nowhere.jsonl", ["not found", "nowhere.jsonl"]),
        ([QUESTION], "data.forgot=x", ["unknown key 'data.forgot'", "Did you mean"]),
        ([QUESTION], "unlearn.steps=few", ["'unlearn.steps'", "few"]),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(tmp_path, capsys, lines, override, words):
    forget = rows(tmp_path / "forget.jsonl", lines)
    out = tmp_path / "run"
    files = ["data.benchmark=files", f"data.forget={forget}", f"data.retain={forget}"]
    extra = [override] if override else []
    assert main(["unlearn", "toy", *SMALL, *files, *extra, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert all(word in error for word in words), error
    assert "Traceback" not in error and not out.exists()


def test_your_own_rows_unlearn_from_a_local_llama_folder(tmp_path):
    forget = rows(tmp_path / "forget.jsonl", [QUESTION, {"text": "Ann was born in Rome."}])
    retain = rows(
        tmp_path / "retain.jsonl", [{**QUESTION, "answer": f"Bo has {n} cats."} for n in range(6)]
    )
    tokenizer = train_tokenizer([forget.read_text(), retain.read_text()], vocab_size=300)
    config = models.DecoderConfig.scratch(vocab_size=len(tokenizer), width=32, layers=1, heads=2)
    model, params = models.init(config, jax.random.key(0))
    models.save(tmp_path / "base", model, params)
    tokenizer.save_pretrained(tmp_path / "base")
    before = digest(tmp_path / "base")
    overrides = [
        *SMALL[3:],
        "data.benchmark=files",
        f"data.forget={forget}",
        f"data.retain={retain}",
        "model.scratch=null",
        f"model.weights={tmp_path / 'base'}",
        "eval.gold=false",
        "data.max_length=64",
    ]
    out = tmp_path / "run"
    assert main(["unlearn", "toy", *overrides, "--out", str(out)]) == 0
    assert digest(tmp_path / "base") == before
    assert set(workflows.evaluate(out, console=quiet())) == {"before", "after"}


def test_tofu_runs_from_its_files_and_scores_wrong_answers(tmp_path):
    out = tmp_path / "run"
    overrides = [*SMALL, f"data.dir={TOFU}", "data.max_length=160", "model.scratch.vocab_size=600"]
    assert main(["unlearn", "tofu-small", *overrides, "--out", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert {"before.forget_choice", "after.forget_choice"} <= set(summary)


def test_a_missing_tofu_split_names_what_is_there(tmp_path, capsys):
    overrides = [*SMALL, f"data.dir={TOFU}", "data.forget=forget1"]
    assert main(["unlearn", "tofu-small", *overrides, "--out", str(tmp_path / "run")]) == 2
    assert "Did you mean 'forget10'?" in capsys.readouterr().err


def test_a_run_on_a_read_only_disk_is_read_and_never_written(done, capsys):
    place, before = str(done.path), digest(done.path)
    with read_only(done.path):
        assert main(["ask", place, "Who?"]) == 0
        assert main(["compare", place, place]) == 0
        capsys.readouterr()
        for words in (["report", place], ["evaluate", place], ["unlearn", "--resume", place]):
            assert main(words) == 2, words
            said = capsys.readouterr().err
            assert re.fullmatch(rf"{re.escape(place)}\S* cannot be written: Read-only .*\n", said)
    assert digest(done.path) == before


def test_the_network_guard_of_these_tests_works():
    with socket.socket() as s, pytest.raises(AssertionError, match="network"):
        s.connect(("127.0.0.1", 9))
