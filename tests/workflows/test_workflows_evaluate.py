# SPDX-License-Identifier: Apache-2.0
"""Models from anywhere, measured on TOFU's files: the table, the log, and what it is against."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from unilogit_jax import models
from unilogit_jax.cli import main
from unilogit_jax.data import train_tokenizer
from unilogit_jax.metrics import items_of, summarize_tofu_log
from unilogit_jax.workflows import evaluate

TOFU = Path(__file__).parents[1] / "data" / "tofu"
SPLIT = f"--benchmark tofu --split forget10 --data {TOFU}".split()
SMALL = "data.retain=retain90 eval.max_new_tokens=4 eval.max_items=3 eval.batch_size=8".split()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two small models with one tokenizer."""
    place = tmp_path_factory.mktemp("models")
    texts = [path.read_text() for path in TOFU.glob("*.json")]
    tokenizer = train_tokenizer(texts, vocab_size=400)
    config = models.DecoderConfig.scratch(
        vocab_size=len(tokenizer), width=16, layers=1, heads=2, max_length=512
    )
    for seed, name in enumerate(("one", "two")):
        model, params = models.init(config, jax.random.key(seed))
        models.save(place / name, model, params)
        tokenizer.save_pretrained(place / name)
    return place


def test_a_folder_is_measured_against_anothers_log(made, capsys):
    out, reference = made / "out", made / "reference"
    assert main(["evaluate", str(made / "two"), *SPLIT, *SMALL, "--out", str(reference)]) == 0
    assert "privleak" not in capsys.readouterr().out
    words = ["eval.grad_norm=true", "--reference", str(reference), "--out", str(out)]
    assert main(["evaluate", str(made / "one"), *SPLIT, *SMALL, *words]) == 0
    shown = capsys.readouterr().out
    assert "model utility" in shown and "privleak" in shown and "KS distance" in shown
    log = json.loads((out / "TOFU_EVAL.json").read_text())
    wanted = json.loads((reference / "TOFU_EVAL.json").read_text())
    again = summarize_tofu_log(log, wanted)
    for name, value in again.items():
        assert log[name]["agg_value"] == pytest.approx(value, abs=1e-12), name
    summary = json.loads((out / "model.json").read_text())["summary"]
    assert summary["model_utility"] == pytest.approx(again["model_utility"])
    assert summary["forget_ks_p"] == pytest.approx(again["forget_quality"])
    items = log["forget_Q_A_PERT_Prob"]["value_by_index"]
    assert len(items) == 3 and all(len(item["prob"]) == 5 for item in items.values())
    assert not {"mia_gradnorm", "mia_reference"} & set(wanted), "neither was to be had"
    for name in ("forget", "holdout"):
        norms = log["mia_gradnorm"][name]["value_by_index"].values()
        assert len(norms) == 3 and all(x["score"] > 0 for x in norms)
        of_both = [items_of(x["mia_loss"], name, "score") for x in (log, wanted)]
        gaps = items_of(log["mia_reference"], name, "score")
        np.testing.assert_allclose(gaps, np.subtract(*of_both), rtol=1e-12)
    losses = [x["score"] for x in log["mia_loss"]["forget"]["value_by_index"].values()]
    asked = [item["avg_loss"] for item in log["forget_Q_A_Prob"]["value_by_index"].values()]
    np.testing.assert_allclose(losses, asked, rtol=1e-12)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say what to measure it on"),
        (["data.benchmark=toy", "eval.reference=x"], "is a published benchmark's log"),
        (["data.benchmark=toy", "eval.grad_norm=true"], "toy has none of these here"),
        ([*SPLIT, "--reference", "nowhere"], "nowhere: no such log"),
        ([*SPLIT, "eval.max_item=3"], "Did you mean 'max_items'?"),
    ],
)
def test_what_cannot_be_measured_is_said(made, capsys, words, said):
    assert main(["evaluate", str(made / "one"), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_copy_of_the_folder_gives_the_same_numbers(made):
    shutil.copytree(made / "one", made / "copy")
    words = ("data.benchmark=tofu", f"data.dir={TOFU}", *SMALL)
    first, second = (evaluate(made / name, *words) for name in ("one", "copy"))
    assert first == second and set(first) == {"model"}
