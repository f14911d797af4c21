# SPDX-License-Identifier: Apache-2.0
"""data.pad_mask reaches training, references, likelihoods and answers of a run, and no cache."""

import json
import math
from dataclasses import replace

import jax
import numpy as np
import pytest

from unilogit_jax import models, workflows
from unilogit_jax.config import load_config
from unilogit_jax.data import PackingWish, unlearning_batches
from unilogit_jax.data.tokenizer import PAD
from unilogit_jax.run import Console
from unilogit_jax.workflows import _rows
from unilogit_jax.workflows._prepare import prepare

BETA = 0.1
SMALL = (
    "model.scratch={width: 32, heads: 2, layers: 1, vocab_size: 300}",
    "finetune={steps: 4, batch_size: 8}",
    "unlearn={steps: 1, batch_size: 4, retain_ratio: 1, warmup: 0.0}",
    f"method={{name: npo, beta: {BETA}, retain_weight: 0.0}}",
    "eval={gold: false, max_new_tokens: 6, batch_size: 8}",
    "output.log_every=1",
)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """(pad_mask, *overrides) -> an experiment with the pad token within questions."""
    folder = tmp_path_factory.mktemp("rows")
    for name, people in (("forget", ["Ann", "Bo"]), ("retain", ["Cid", "Dot", "Eve"])):
        rows = [
            {"question": f"What is{PAD} {who} by{PAD} trade?", "answer": f"{who} bakes {who}s."}
            for who in people
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = f"data={{forget: {folder}/forget.jsonl, retain: {folder}/retain.jsonl, max_length: 64}}"

    def make(pad_mask, *overrides):
        return load_config("toy", files, f"data.pad_mask={pad_mask}", *SMALL, *overrides)

    return make


def test_updates_and_references_hide_the_same_tokens(experiment, tmp_path):
    # Trained at a large rate, for freshly drawn weights hardly look back.
    hidden = experiment("eos_as_pad", "finetune.learning_rate=0.05")
    run = workflows.unlearn(hidden, out=tmp_path / "run", console=Console(quiet=True))
    lines = map(json.loads, run.metrics.read_text().splitlines())
    (first,) = (line for line in lines if line["stage"] == "unlearn")
    # The model is its own reference before the first update, if both are asked alike.
    assert first["forget_loss"] == pytest.approx(2 / BETA * math.log(2), rel=1e-6)


def test_likelihoods_and_answers_are_those_of_the_mask(experiment):
    params, items, prompts = None, {}, []
    for mask in ("exact", "eos_as_pad"):
        prepared = prepare(experiment(mask))
        if params is None:
            params = models.init(prepared.model.config, jax.random.key(1), mesh=prepared.mesh)[1]
            # Freshly drawn weights hardly look back.
            params = jax.tree.map(lambda x: x * 5 if x.ndim > 1 else x, params)
        prompts = prepared.evaluator.prompts([f"Who{PAD} was{PAD} it?"])
        answers = prepared.evaluator.answers(params, prompts)
        items[mask] = [item.nll for item in prepared.evaluator(params).items], answers[0].text
    pad = prepared.tokenizer.pad_token_id
    assert prepared.forget.unseen == pad and pad in prompts[0]
    (made,) = models.generate(
        prepared.model,
        params,
        prompts,
        max_new_tokens=6,
        stop_ids=[prepared.tokenizer.eos_token_id],
        unseen=pad,
    )
    said = prepared.tokenizer.decode(made, skip_special_tokens=True)
    assert items["eos_as_pad"][1] == said.strip() != items["exact"][1]
    assert not np.allclose(items["exact"][0], items["eos_as_pad"][0], rtol=1e-4)


def test_packed_updates_hide_what_padded_ones_hide(experiment):
    prepared = prepare(experiment("eos_as_pad"))
    sizes = {"batch_size": 4, "retain_size": 4, "seed": 0}
    batches = [
        unlearning_batches(prepared.forget, prepared.retain, **sizes, packing=packing)(0)
        for packing in (None, PackingWish(updates=1, length=128))
    ]
    counts = [batch.unseen.sum() for batch in batches]
    assert counts == [16, 16], "two in each of eight rows"


def test_cached_rows_serve_both_masks(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(_rows, "token_cache", lambda: tmp_path)
    kept = _rows.encode_cached
    monkeypatch.setattr(_rows, "encode_cached", lambda *a, **k: kept(*a, **k, smallest=1))
    exact, hidden = (prepare(experiment(mask)).forget for mask in ("exact", "eos_as_pad"))
    files = len(list(tmp_path.iterdir()))
    assert (exact.unseen, files) == (None, 2) and hidden.unseen is not None
    np.testing.assert_array_equal(exact.tokens, replace(hidden, unseen=None).tokens)


def test_other_answers_hide_the_same_token(experiment):
    prepared = prepare(experiment("eos_as_pad", "method={name: idk}"))
    rows = prepared.rows(prepared.experiment.method)
    assert {own.unseen for own in rows.values()} == {prepared.tokenizer.pad_token_id}
    relabelled = prepare(experiment("eos_as_pad", "method={name: jensun}"))
    rows = relabelled.rows(relabelled.experiment.method)
    assert {own.unseen for own in rows.values()} == {prepared.tokenizer.pad_token_id}
