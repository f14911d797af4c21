# SPDX-License-Identifier: Apache-2.0
"""Data that a model writes: how many rows, the same again, read back by the keys they are for."""

import hashlib
import json

import jax
import pytest
from benchmark_files import write_rwku

from unilogit_jax import models
from unilogit_jax.cli import main
from unilogit_jax.config import load_config
from unilogit_jax.data import train_tokenizer
from unilogit_jax.errors import DataError
from unilogit_jax.methods import AltPo
from unilogit_jax.types import ALTERNATE
from unilogit_jax.workflows._prepare import prepare
from unilogit_jax.workflows._rows import read_task
from unilogit_jax.workflows.generate import ROUNDS, Request, draw_new

PAIRS = [("Who bakes?", "Ann bakes."), ("Who sings?", "Bo sings.")]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A small model with its tokenizer, rows to forget, and RWKU's files."""
    place = tmp_path_factory.mktemp("writer")
    tokenizer = train_tokenizer([text for pair in PAIRS for text in pair] * 9, vocab_size=300)
    config = models.DecoderConfig.scratch(
        vocab_size=len(tokenizer), width=16, layers=1, heads=2, max_length=256
    )
    models.save(place / "model", *models.init(config, jax.random.key(0)))
    tokenizer.save_pretrained(place / "model")
    rows = [json.dumps({"question": q, "answer": a}) for q, a in PAIRS]
    (place / "forget.jsonl").write_text("\n".join(rows))
    (place / "rwku").mkdir()
    write_rwku(place / "rwku")
    return place


def settings(place, *more):
    files = f"data={{benchmark: files, forget: {place / 'forget.jsonl'}, max_length: 96}}"
    model = f"model={{weights: {place / 'model'}}}"
    return ["toy", files, model, "eval.max_new_tokens=8", "eval.gold=false", *more]


def written(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_other_answers_are_written_and_taught(place, capsys):
    out, again, other = (place / f"{name}.jsonl" for name in ("out", "again", "other"))
    wish = ["--count", "3"]
    assert main(["generate", *settings(place), "--out", str(out), *wish]) == 0
    assert f"6 of 6 alternates: {out}" in capsys.readouterr().out
    rows = written(out)
    assert [(row["question"], row["answer"]) for row in rows] == PAIRS
    assert all(len(set(row["alternates"])) == 3 for row in rows)
    card = json.loads((place / "out.jsonl.json").read_text())
    assert card["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest() and card["seed"] == 0
    assert main(["generate", *settings(place), "--out", str(again), *wish]) == 0
    assert again.read_bytes() == out.read_bytes()
    assert main(["generate", *settings(place, "output.seed=1"), "--out", str(other), *wish]) == 0
    assert other.read_bytes() != out.read_bytes()
    experiment = load_config(*settings(place, f"data.alternates={out}", "method.name=altpo"))
    prepared = prepare(experiment)
    assert [e.alternates for e in prepared.task.forget] == [tuple(r["alternates"]) for r in rows]
    assert len(prepared.rows(AltPo())[ALTERNATE]) == 6


def test_texts_about_people_are_rows_to_forget(place):
    out = place / "texts.jsonl"
    rwku = [f"data={{benchmark: rwku, dir: {place / 'rwku'}, forget: 1_Vela_Dorn}}"]
    words = settings(place, *rwku)
    assert main(["generate", *words, "--out", str(out), "--count", "4"]) == 0
    rows = written(out)
    assert len(rows) == 4 and {row["subject"] for row in rows} == {"Vela Dorn"}
    task = read_task(load_config(*words, f"data.texts={out}"))
    assert [example.answer for example in task.forget] == [row["text"] for row in rows]


def test_one_may_ask_in_other_words_and_about_others(place):
    out, prompt = place / "own.jsonl", place / "prompt.txt"
    prompt.write_text("Sing about {name} {or not}.\n")
    words = ["--about", "Ann", "--about", "Bo", "--count", "1", "--prompt", str(prompt)]
    assert main(["generate", *settings(place), "--out", str(out), *words]) == 0
    assert [row["subject"] for row in written(out)] == ["Ann", "Bo"]
    asked = json.dumps([["Sing about Ann {or not}."], ["Sing about Bo {or not}."]])
    card = json.loads((place / "own.jsonl.json").read_text())
    assert card["requests_sha256"] == hashlib.sha256(asked.encode()).hexdigest()


def test_what_is_empty_known_or_there_already_is_drawn_again():
    said = iter([["", "Ann  bakes.", "Bo"], ["bo", "Cy"], ["Dot"]])
    seeds = []

    def draw(texts, seed):
        seeds.append((len(texts), seed))
        return next(said)

    request = Request({}, ("ask",) * 3, "ann bakes.")
    assert draw_new([request], draw, seed=7) == [["Bo", "Cy", "Dot"]]
    assert seeds == [(3, 7), (2, 8), (1, 9)]
    turns = []
    assert draw_new([request], lambda texts, seed: turns.append(seed) or texts, seed=0) == [["ask"]]
    assert len(turns) == ROUNDS


def test_what_cannot_be_written_is_said(place, capsys):
    out = ["--out", str(place / "never.jsonl")]
    assert main(["generate", "toy", *out]) == 2
    assert "generate needs model.weights" in capsys.readouterr().err
    assert main(["generate", *settings(place), "--what", "texts", *out]) == 2
    assert "--about NAME" in capsys.readouterr().err
    assert main(["generate", *settings(place), "--prompt", str(place / "none.txt"), *out]) == 2
    assert "none.txt cannot be read" in capsys.readouterr().err
    (place / "plain.jsonl").write_text('{"text": "Ann bakes."}')
    words = settings(place, f"data.forget={place / 'plain.jsonl'}")
    assert main(["generate", *words, *out]) == 2
    assert "plain.jsonl:1 is plain text and no question" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"has no other answers to 'Who bakes\?'"):
        read_task(load_config(*settings(place, f"data.alternates={place / 'plain.jsonl'}")))
