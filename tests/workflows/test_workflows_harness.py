# SPDX-License-Identifier: Apache-2.0
"""Tasks of lm-evaluation-harness by command: local tasks, a table, a file; what is refused."""

import json
import sys

import jax
import pytest

from unilogit_jax import models
from unilogit_jax.cli import main
from unilogit_jax.config import load_config
from unilogit_jax.data import train_tokenizer
from unilogit_jax.run import Console
from unilogit_jax.workflows import finetune

pytestmark = pytest.mark.filterwarnings("ignore")
ITEMS = [
    {"question": "Who bakes?", "choices": ["Ann", "Bo", "Cy"], "answer": 1},
    {"question": "Who sings?", "choices": ["Bo", "Ann"], "answer": 0},
]
CHOICE = """task: bakers
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, and a task that only its folder knows."""
    place = tmp_path_factory.mktemp("tasks")
    (place / "items.jsonl").write_text("\n".join(map(json.dumps, ITEMS)))
    (place / "yaml").mkdir()
    (place / "yaml" / "bakers.yaml").write_text(CHOICE.format(data=place / "items.jsonl"))
    tokenizer = train_tokenizer(["Who bakes? Ann, Bo and Cy."] * 9, vocab_size=300)
    config = models.DecoderConfig.scratch(
        vocab_size=len(tokenizer), width=16, layers=1, heads=2, max_length=64
    )
    model, params = models.init(config, jax.random.key(0))
    models.save(place / "model", model, params)
    tokenizer.save_pretrained(place / "model")
    return place


def test_a_local_task_is_scored_and_its_choices_are_the_models(place, capsys):
    words = ["--lm-eval", "bakers", "--lm-eval-dir", str(place / "yaml")]
    out = ["--out", str(place / "out")]
    assert main(["evaluate", str(place / "model"), *words, *out]) == 0
    shown = capsys.readouterr().out
    found = json.loads((place / "out" / "lm_eval.json").read_text())
    score = found["model"]["bakers"]["acc,none"]
    assert "bakers" in shown and f"{score:.4f}" in shown and score == by_hand(place / "model")


def by_hand(folder):
    """Share of items whose answer is the likeliest, by transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (x.from_pretrained(folder) for x in (AutoModelForCausalLM, AutoTokenizer))
    right = []
    for item in ITEMS:
        before, sums = tokenizer(item["question"])["input_ids"], []
        for choice in item["choices"]:
            ids = tokenizer(f"{item['question']} {choice}")["input_ids"]
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            sums.append(sum(logits[t - 1, ids[t]].item() for t in range(len(before), len(ids))))
        right.append(sums.index(max(sums)) == item["answer"])
    return sum(right) / len(right)


def test_all_models_of_a_run_are_scored_into_its_folder(place, overrides):
    words = [*overrides, "eval.gold=false", "eval.max_items=1"]
    run = finetune(load_config("toy", *words), out=place / "run", console=Console(quiet=True))
    tasks = ["--lm-eval", "bakers", "--lm-eval-dir", str(place / "yaml"), "--limit", "1"]
    assert main(["evaluate", str(run.path), *tasks]) == 0
    found = json.loads((run.eval / "lm_eval.json").read_text())
    assert list(found) == ["before"] and found["before"]["bakers"]["sample_len"] == 1
    both = ["--whp", str(run.path), "--alpha", "2", "--out", str(place / "both")]
    assert main(["evaluate", str(run.path), *tasks, *both]) == 0
    found = json.loads((place / "both" / "lm_eval.json").read_text())
    # A model beside itself prefers nothing.
    assert list(found) == ["before", "whp_decoding"]
    assert found["whp_decoding"] == found["before"]


def test_what_cannot_be_done_is_said(place, capsys, monkeypatch):
    model = str(place / "model")
    assert main(["evaluate", model, "--lm-eval", "bakers"]) == 2
    assert "knows no task 'bakers'" in capsys.readouterr().err
    assert main(["evaluate", model, "--lm-eval", "mmlu", "--lm-eval-dir", "nowhere"]) == 2
    assert "no folder nowhere" in capsys.readouterr().err
    assert main(["evaluate", model, "--lm-eval", "mmlu", "--split", "forget10", "a=1"]) == 2
    assert "drop --split, a=1" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    assert main(["evaluate", model, "--lm-eval", "mmlu"]) == 2
    assert "pip install lm-eval." in capsys.readouterr().err
