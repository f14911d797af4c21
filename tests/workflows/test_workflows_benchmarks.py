# SPDX-License-Identifier: Apache-2.0
"""MUSE, RWKU and WMDP from their files through a whole run: what is in its table and its logs."""

import json

import pytest
from benchmark_files import write_muse, write_rwku, write_wmdp

from unilogit_jax.cli import main

SHORT = (
    "model.scratch={width: 16, heads: 2, layers: 1, vocab_size: 300}",
    "finetune={steps: 2, batch_size: 8}",
    "unlearn={steps: 2, batch_size: 8, retain_ratio: 1}",
    "eval={max_items: 2, max_new_tokens: 4, batch_size: 8}",
)
WANTED = {
    "muse": {"forget_knowledge", "forget_verbatim", "retain_knowledge"},
    "rwku": {"forget_level1", "forget_mia", "neighbor_level2", "mmlu", "truthfulqa", "fluency"},
    "wmdp": {"wmdp_bio", "wmdp_cyber", "mmlu"},
}
"""Numbers that a run has."""
ASKED = {"muse": "Who resigned?", "rwku": "Vela Dorn was born in", "wmdp": None}
"""Of a question that its report shows."""


@pytest.mark.parametrize(
    ("name", "write", "data"),
    [
        ("muse", write_muse, "forget: raw/forget"),
        ("rwku", write_rwku, "forget: 1_Vela_Dorn"),
        ("wmdp", write_wmdp, 'forget: "bio,cyber", retain: wikitext'),
    ],
)
def test_a_run_measures_every_panel_before_and_after(name, write, data, tmp_path, capsys):
    folder = tmp_path / "files"
    folder.mkdir()
    write(folder)
    files = f"data={{benchmark: {name}, dir: {folder}, template: plain, max_length: 768, {data}}}"
    run = tmp_path / "run"
    assert main(["unlearn", "toy", files, *SHORT, "--out", str(run)]) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert {f"{column}.{n}" for column in ("before", "after") for n in WANTED[name]} <= set(summary)
    assert "passed" not in summary, "no rule is about these panels"
    shown, question = capsys.readouterr().out, ASKED[name]
    assert "NO VERDICT" in shown and "PASSED" not in shown
    assert ("Questions to be forgotten" in shown) == bool(question)
    assert question is None or question in shown
    items = json.loads((run / "eval" / "after.json").read_text())["items"]
    assert len(items) >= len(WANTED[name])


def test_items_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, capsys):
    write_muse(tmp_path)
    files = f"data={{benchmark: muse, dir: {tmp_path}, template: plain, max_length: 64}}"
    run = tmp_path / "run"
    assert main(["unlearn", "toy", files, *SHORT, "--out", str(run)]) == 2
    assert "no answer token is left after cutting to 64 tokens" in capsys.readouterr().err
    assert not run.exists()
