# SPDX-License-Identifier: Apache-2.0
"""Where each forget token's own label probability comes from, and what is refused beforehand."""

import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax import cli
from unilogit_jax.config import load_config
from unilogit_jax.data import ngram_log_odds
from unilogit_jax.run import RunFolder
from unilogit_jax.train import ReferenceCache
from unilogit_jax.types import FORGET, IGNORE
from unilogit_jax.workflows._prepare import prepare
from unilogit_jax.workflows._runs import load_stage
from unilogit_jax.workflows._targets import check_targets, with_targets


@pytest.fixture(scope="module")
def other(tmp_path_factory, overrides):
    """A run with the toy's tokens, as the model that never saw the data."""
    out = tmp_path_factory.mktemp("other") / "run"
    assert cli.main(["finetune", "toy", *overrides, "--out", str(out)]) == 0
    return out


def test_ngrams_are_those_of_the_retain_rows(overrides):
    prepared = prepare(load_config("toy", *overrides, "method.tau=ngram"))
    check_targets(prepared)
    before = {FORGET: {"ref_log_odds": np.zeros(1)}}
    found = with_targets(prepared, prepared.experiment.method, before, start=None)[FORGET]
    size = prepared.model.config.vocab_size
    wanted = ngram_log_odds(prepared.retain, prepared.forget, vocab_size=size)
    np.testing.assert_array_equal(found["logit_tau"], wanted)
    assert "ref_log_odds" in found and "logit_tau" not in before[FORGET]


def test_a_reference_is_asked_for_every_label(overrides, other, tmp_path):
    words = ("method.tau=reference", f"method.tau_weights={other}")
    prepared = prepare(load_config("toy", *overrides, *words))
    check_targets(prepared)
    said = []
    cache = ReferenceCache(folder=tmp_path, model={}, version="1", warn=said.append)
    found, kept = (
        with_targets(prepared, prepared.experiment.method, {}, cache, start=None)[FORGET][
            "logit_tau"
        ]
        for _ in range(2)
    )
    (place,) = tmp_path.iterdir()
    assert place.name.startswith("tau-") and not said
    np.testing.assert_array_equal(found, kept)
    model, params = load_stage(RunFolder.open(other), mesh=prepared.mesh)
    rows = prepared.forget
    logits = model.apply({"params": params}, jnp.asarray(rows.tokens[:8])).logits()
    z, labels = np.asarray(logits, np.float64), rows.labels[:8]
    label = np.take_along_axis(z, np.maximum(labels, 0)[..., None], -1)
    p = 1 / np.exp(z - label).sum(-1)
    on = labels != IGNORE
    np.testing.assert_allclose(1 / (1 + np.exp(-found[:8][on])), p[on], rtol=1e-4)
    assert (found[rows.labels == IGNORE] == 0).all()


@pytest.mark.parametrize("case", ["own", "no retain rows", "other tokens", "nothing there"])
def test_a_source_that_is_not_to_be_had_is_refused_in_one_sentence(
    tmp_path, capsys, overrides, case, request
):
    words = {"own": ("method.tau=own",), "nothing there": ("method.tau=reference",)}.get(case, ())
    wanted = {
        "own": "method.tau own is an array that a program hands in",
        "no retain rows": "method.tau ngram counts the rows to keep, and there are none",
        "other tokens": "has other tokens",
        "nothing there": str(tmp_path / "none"),
    }[case]
    if case == "no retain rows":
        (tmp_path / "forget.jsonl").write_text('{"question": "Who?", "answer": "A baker."}\n')
        words = ("data.benchmark=files", f"data.forget={tmp_path}/forget.jsonl", "method.tau=ngram")
        words += ("unlearn.retain_ratio=0",)
    if case == "other tokens":
        run = request.getfixturevalue("other")
        words = (
            "method.tau=reference",
            f"method.tau_weights={run}",
            "model.scratch.vocab_size=290",
        )
    if case == "nothing there":
        words += (f"method.tau_weights={tmp_path}/none",)
    capsys.readouterr()
    for verb in (["unlearn", "toy", "--out", str(tmp_path / "run")], ["plan", "toy"]):
        assert cli.main([*verb[:2], *overrides, *words, *verb[2:]]) == 2
        message = capsys.readouterr().err
        assert wanted in message and message.count("\n") == 1, message
    assert not (tmp_path / "run").exists()
