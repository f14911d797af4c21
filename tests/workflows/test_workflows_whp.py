# SPDX-License-Identifier: Apache-2.0
"""A base decoded beside a reinforced model: folders and runs, from the command line."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import pytest

from unilogit_jax import models, workflows
from unilogit_jax.cli import main
from unilogit_jax.config import load_config
from unilogit_jax.data import train_tokenizer
from unilogit_jax.run import Console

TOFU = Path(__file__).parents[1] / "data" / "tofu"
WORDS = (
    *f"--benchmark tofu --split forget10 --data {TOFU} data.retain=retain90".split(),
    *"eval.max_new_tokens=4 eval.max_items=2 eval.batch_size=8".split(),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Models of one tokenizer: a base, one of its shape, a wider one, one of other tokens."""
    place = tmp_path_factory.mktemp("models")
    texts = [path.read_text() for path in TOFU.glob("*.json")]
    tokenizer, other = (train_tokenizer(t, vocab_size=400) for t in (texts, texts[:1]))
    config = models.DecoderConfig.scratch(
        vocab_size=len(tokenizer), width=16, layers=1, heads=2, max_length=512
    )
    wide = dataclasses.replace(config, width=32, head_dim=16)
    kinds = {"base": (config, tokenizer), "reinforced": (config, tokenizer)}
    kinds |= {"wide": (wide, tokenizer), "foreign": (config, other)}
    for seed, (name, (config, own)) in enumerate(kinds.items()):
        model, params = models.init(config, jax.random.key(seed))
        params = jax.tree.map(lambda x: x * 3 if x.ndim > 1 else x, params)
        models.save(place / name, model, params)
        own.save_pretrained(place / name)
    return place


@pytest.fixture(scope="module")
def run(tmp_path_factory, overrides):
    """A run whose method made a reinforced model of adapters, and a rival that distils it."""
    words = ("eval.gold=false", "unlearn.learning_rate=0.03", "method.name=whp")
    lora = "lora={rank: 2, targets: [q_proj, v_proj]}"
    experiment = load_config("toy", *overrides, *words, lora)
    folder = tmp_path_factory.mktemp("runs") / "run"
    return workflows.unlearn(experiment, out=folder, console=Console(quiet=True)).path


def numbers(folder, column):
    found = json.loads((folder / f"{column}.json").read_text())
    return found["summary"], found["items"], json.loads((folder / _log(column)).read_text())


def _log(column):
    return "TOFU_EVAL.json" if column == "model" else f"{column}.TOFU_EVAL.json"


@pytest.mark.parametrize("alpha", ["0", None])
def test_a_folder_is_measured_beside_a_reinforced_one(made, tmp_path, capsys, alpha):
    words = ["--whp", str(made / "reinforced"), "--out", str(tmp_path)]
    words += [] if alpha is None else ["--alpha", alpha]
    assert main(["evaluate", str(made / "base"), *WORDS, *words]) == 0
    assert "whp_decoding" in capsys.readouterr().out
    base, both = (numbers(tmp_path, column) for column in ("model", "whp_decoding"))
    assert (base == both) == (alpha == "0")
    assert set(both[0]) == set(base[0]) and set(both[2]) == set(base[2])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--whp", "{}/wide"], "not of the base's shape: width 32 and not 16"),
        (["--whp", "{}/foreign"], "The two models must have one vocabulary"),
        (["--whp", "{}/nowhere"], "nowhere"),
        (["--whp", "{}/reinforced", "--alpha", "-1"], "alpha must be a number of at least 0"),
        (["--alpha", "2"], "--alpha is the strength of --whp REINFORCED"),
    ],
)
def test_what_does_not_fit_is_said(made, capsys, words, said):
    words = [word.format(made) for word in words]
    assert main(["evaluate", str(made / "base"), *WORDS, *words]) == 2
    shown = capsys.readouterr().err
    assert said in shown and "Traceback" not in shown


def test_a_run_of_the_method_is_base_and_reinforced_model(run, capsys):
    assert main(["evaluate", str(run), "--whp", str(run), "--alpha", "3"]) == 0
    found = {
        column: json.loads((run / "eval" / f"{column}.json").read_text())["summary"]
        for column in ("before", "after", "whp_decoding")
    }
    probability = {column: x["forget_probability"] for column, x in found.items()}
    assert probability["whp_decoding"] < probability["before"]
    capsys.readouterr()
    assert main(["ask", str(run), "Who are you?", "--whp", str(run), "--alpha", "0"]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line]
    answers = {line[0]: line[1:] for line in lines}
    assert answers["whp_decoding"] == answers["before"]


def test_a_run_without_a_reinforced_model_of_its_own(run, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(run, other)
    # Adapters belong to the weights that their run began with.
    assert main(["evaluate", str(other), "--whp", str(run)]) == 2
    assert "Name the run as the base too" in capsys.readouterr().err
    for stage in ("unlearn.reinforced.lora", "unlearn.lora"):
        shutil.rmtree(other / "checkpoints" / stage)
    assert main(["evaluate", str(run), "--whp", str(other)]) == 2
    assert "unlearned without making a reinforced model" in capsys.readouterr().err
    # What a finetuned run is for counts as one; a model beside itself loses nothing.
    shutil.rmtree(other / "checkpoints" / "unlearn")
    assert main(["evaluate", str(other), "--whp", str(other)]) == 0
    files = (other / "eval" / f"{column}.json" for column in ("before", "whp_decoding"))
    before, both = (json.loads(path.read_text()) for path in files)
    assert before == both
