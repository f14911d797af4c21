# SPDX-License-Identifier: Apache-2.0
"""The benchmark that the documentation writes down is one."""

import json
import re
from pathlib import Path

import unilogit_jax
from unilogit_jax import workflows
from unilogit_jax.benchmarks import BENCHMARKS
from unilogit_jax.config import load_config
from unilogit_jax.run import Console

PAGE = Path(unilogit_jax.__file__).parents[1] / "docs" / "benchmarks-more.md"
SMALL = (
    "model.scratch={width: 16, heads: 2, layers: 1, vocab_size: 300}",
    "data={benchmark: toy, forget: rivers, template: plain, max_length: 64}",
    "finetune={steps: 2, batch_size: 8}",
    "unlearn={steps: 2, batch_size: 8, retain_ratio: 1}",
    "eval={gold: false, max_new_tokens: 4, batch_size: 8}",
)


def test_the_loader_of_the_page_goes_through_a_run(monkeypatch, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    written: dict = {}
    exec(code, written)
    rows = [
        {
            "theme": theme,
            "question": f"{theme} {n}?",
            "answer": f"{n} is it.",
            "wrong": ["No.", "1."],
        }
        for theme in ("rivers", "trees", "birds")
        for n in range(3)
    ]
    (tmp_path / "quiz.jsonl").write_text("\n".join(map(json.dumps, rows)))

    # In the place of one whose name the configuration knows.
    monkeypatch.setitem(BENCHMARKS, "toy", written["load_quiz"])
    experiment = load_config("toy", *SMALL, f"data.dir={tmp_path}")
    run = workflows.unlearn(experiment, out=tmp_path / "run", console=Console(quiet=True))
    found = json.loads((run.path / "eval" / "after.json").read_text())
    assert [item["group"] for item in found["items"]] == ["forget"] * 3 + ["retain"] * 6
    assert {item["kind"] for item in found["items"]} == {"rivers", "trees", "birds"}
    asked = [item["answer"] is not None for item in found["items"]]
    assert asked == [True] * 3 + [False] * 6, "a panel of no new tokens is only scored"
    summary = json.loads(run.summary.read_text())
    assert {"after.forget_probability", "after.retain_probability"} <= set(summary)
    assert all(item["wrong_nll"] for item in found["items"])
