# SPDX-License-Identifier: Apache-2.0
"""A finished run: what its folder holds, and what evaluate, ask and export make of it."""

import gc
import json
import shutil
import socket

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import unilogit_jax as uj
from unilogit_jax import cli, models, workflows
from unilogit_jax.config import load_config
from unilogit_jax.data import assemble
from unilogit_jax.errors import CheckpointError, WeightsError
from unilogit_jax.run import Console, MetricsLog

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def exported(toy_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "model"
    return workflows.export(toy_run.path, out, console=QUIET)


@pytest.fixture
def copied(toy_run, tmp_path):
    """A copy of the finished run that a test may damage."""
    return shutil.copytree(toy_run.path, tmp_path / "copy")


def same_tree(a, b) -> bool:
    equal = jax.tree.map(lambda x, y: np.array_equal(np.asarray(x), np.asarray(y)), a, b)
    return all(jax.tree.leaves(equal))


def damage(run, stage: str) -> None:
    """Zeroes the middle of every data file of a stage's newest checkpoint."""
    files = [p for p in (run / "checkpoints" / stage).rglob("*") if p.parent.name == "d"]
    assert files
    for path in files:
        contents = bytearray(path.read_bytes())
        middle, width = len(contents) // 2, min(64, len(contents) // 4)
        contents[middle : middle + width] = bytes(width)
        path.write_bytes(contents)


def test_a_run_folder_holds_everything_about_the_run(toy_run):
    path = toy_run.path
    assert toy_run.status == "done"
    for name in ("config.yaml", "env.json", "log.txt", "model.json", "report.html"):
        assert (path / name).stat().st_size > 0, name
    assert {p.name for p in toy_run.checkpoints.iterdir()} == {
        "target",
        "gold",
        "unlearn",
    }
    assert {p.name for p in toy_run.eval.iterdir()} == {
        "before.json",
        "after.json",
        "gold.json",
    }
    for picture in ("bars", "curves", "tradeoff"):
        assert (toy_run.plots / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
    assert (toy_run.tokenizer / "tokenizer.json").is_file()


def test_the_summary_is_flat_json_with_every_column(toy_run):
    summary = json.loads(toy_run.summary.read_text())
    assert all(isinstance(x, str | int | float | bool) for x in summary.values())
    assert isinstance(summary["passed"], bool) and summary["method"] == "unilogit"
    for column in ("before", "after", "gold"):
        assert 0 <= summary[f"{column}.forget_probability"] <= 1
    for column in ("before", "after", "gold"):
        items = json.loads((toy_run.eval / f"{column}.json").read_text())["items"]
        groups = [item["group"] for item in items]
        assert groups.count("forget") == groups.count("retain") == 6


def test_metrics_hold_every_update_once(toy_run):
    rows = MetricsLog.read(toy_run.metrics)
    seen = [(row["stage"], row["step"]) for row in rows]
    lengths = {"target": 12, "gold": 12, "unlearn": 4}
    assert sorted(seen) == sorted((s, k) for s, n in lengths.items() for k in range(1, n + 1))


def test_the_stored_config_is_the_experiment(toy_run, tiny):
    assert load_config(toy_run.config) == tiny()


def test_the_report_names_no_other_host(toy_run):
    page = toy_run.report.read_text()
    assert 'src="http' not in page and "<link" not in page


def test_a_second_run_into_the_same_folder_changes_nothing(toy_run, tiny, hashes):
    before = hashes(toy_run.path)
    with pytest.raises(CheckpointError, match="not empty"):
        workflows.unlearn(tiny(), out=toy_run.path, console=QUIET)
    assert hashes(toy_run.path) == before


def test_evaluate_reproduces_the_numbers_of_the_summary(copied):
    summary = json.loads((copied / "summary.json").read_text())
    again = workflows.evaluate(copied, console=QUIET)
    flat = {f"{name}.{key}": x for name, numbers in again.items() for key, x in numbers.items()}
    assert flat == {k: v for k, v in summary.items() if k.partition(".")[0] in again}


def test_ask_answers_before_after_and_gold_without_a_socket(toy_run, hashes, monkeypatch):
    def refuse(self, address):
        # The test suite's own guard lets local sockets pass; a run needs none at all.
        raise AssertionError(f"a connection to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    before = hashes(toy_run.path)
    rows = workflows.ask(toy_run.path, ["Who is it?", "Where?"], console=QUIET)
    assert [set(row) for row in rows] == [{"before", "after", "gold"}] * 2
    assert hashes(toy_run.path) == before


def test_loading_a_run_equals_loading_its_export_bitwise(toy_run, exported):
    model, params, tokenizer = uj.load_pretrained(toy_run.path)
    model2, params2, tokenizer2 = uj.load_pretrained(exported)
    assert same_tree(params, params2)
    assert tokenizer.get_vocab() == tokenizer2.get_vocab()
    assert model.config.vocab_size == model2.config.vocab_size == len(tokenizer)


@pytest.mark.parity
def test_transformers_loads_an_export_with_the_same_logits(toy_run, exported):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        exported, local_files_only=True, dtype=torch.float32
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported, local_files_only=True)
    model, params, ours = uj.load_pretrained(toy_run.path)
    text = "Question: Where was Vela born?\nAnswer: In 1969."
    ids = tokenizer(text)["input_ids"]
    assert ids == ours(text)["input_ids"]
    tokens = np.array([ids] * 8, np.int32)
    lengths, sets = np.full(8, len(ids), np.int32), np.full(8, 2, np.int32)
    batch = jax.tree.map(jnp.asarray, assemble(tokens, tokens, lengths, sets))
    logits = np.asarray(models.apply_fn(model)(params, batch).logits())[0]
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-5, rtol=1e-5)


def test_an_export_never_overwrites(toy_run, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(WeightsError, match="not empty"):
        workflows.export(toy_run.path, tmp_path, console=QUIET)
    assert [p.name for p in tmp_path.iterdir()] == ["precious.txt"]


def test_an_unknown_stage_is_refused_with_a_suggestion(toy_run, tmp_path):
    with pytest.raises(CheckpointError, match="Did you mean 'gold'"):
        workflows.export(toy_run.path, tmp_path / "out", stage="golt", console=QUIET)
    assert not (tmp_path / "out").exists()


# Orbax leaves the reads it started beside the one that failed to their own end.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_damaged_checkpoint_is_noticed_by_every_verb(copied, capsys):
    damage(copied, "target")
    for verb in (workflows.evaluate, workflows.resume):
        with pytest.raises(CheckpointError, match="damaged"):
            verb(copied, console=QUIET)
        gc.collect()
    capsys.readouterr()
    assert cli.main(["ask", str(copied), "Who?"]) == 2
    assert "damaged" in capsys.readouterr().err
    gc.collect()
