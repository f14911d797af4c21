# SPDX-License-Identifier: Apache-2.0
"""MUSE, RWKU and WMDP from their files through a whole run: its table, its logs, its attacks."""

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
ATTACKED = {
    "muse": {"quantize", "prompts", "sample", "lens"},
    "rwku": {"relearn", "quantize", "prompts", "sample", "lens"},
    "wmdp": {"quantize"},
}
"""What can be tried: relearning needs a second row to forget, most others a question."""


@pytest.mark.parametrize(
    ("name", "write", "data"),
    [
        ("muse", write_muse, "forget: raw/forget"),
        ("rwku", write_rwku, "forget: 1_Vela_Dorn"),
        ("wmdp", write_wmdp, 'forget: "bio,cyber", retain: wikitext'),
    ],
)
def test_a_run_measures_every_panel_before_and_after_and_is_attacked(
    name, write, data, tmp_path, capsys
):
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

    assert main(["attack", str(run), "--updates", "2", "--samples", "2"]) == 0
    page = json.loads((run / "attack.json").read_text())
    assert {row["attack"] for row in page["rows"]} == ATTACKED[name]
    assert all(list(row["values"]) == ["before", "after"] for row in page["rows"])
    told = "relearn is left out. --rows 1: every forget row has an answer that is taught"
    assert (told in capsys.readouterr().out) == (name != "rwku")


def test_own_rows_that_no_model_has_seen_are_told_from_those_to_forget(tmp_path):
    files = {}
    for name, people in {
        "forget": ("Ann", "Bo", "Cy"),
        "retain": ("Di", "Ed", "Flo"),
        "holdout": ("Gus", "Hal", "Ida"),
    }.items():
        rows = [{"question": f"Who is {x}?", "answer": f"{x} bakes in Oslo."} for x in people]
        files[name] = tmp_path / f"{name}.jsonl"
        files[name].write_text("\n".join(map(json.dumps, rows)))
    keys = ", ".join(f"{name}: {path}" for name, path in files.items())
    data = f"data={{benchmark: files, template: plain, max_length: 64, {keys}}}"
    run = tmp_path / "run"
    words = ["eval.gold=true", "eval.grad_norm=true", "--out", str(run)]
    assert main(["unlearn", "toy", data, *SHORT, *words]) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert {k.partition(".")[0] for k in summary if k.endswith("privleak")} == {"before", "after"}
    for column in ("before", "after", "gold"):
        items = json.loads((run / "eval" / f"{column}.json").read_text())["items"]
        sides = [
            [item["scores"] for item in items if item["group"] == side]
            for side in ("forget", "holdout")
        ]
        pairs = [(a["mia_min_k"], b["mia_min_k"]) for a in sides[0] for b in sides[1]]
        wanted = sum((a < b) + (a == b) / 2 for a, b in pairs) / len(pairs)
        assert summary[f"{column}.membership_auc"] == pytest.approx(wanted)
        assert all(scores["mia_gradnorm"] > 0 for side in sides for scores in side)


def test_items_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, capsys):
    write_muse(tmp_path)
    files = f"data={{benchmark: muse, dir: {tmp_path}, template: plain, max_length: 64}}"
    run = tmp_path / "run"
    assert main(["unlearn", "toy", files, *SHORT, "--out", str(run)]) == 2
    assert "no answer token is left after cutting to 68 tokens" in capsys.readouterr().err
    assert not run.exists()
