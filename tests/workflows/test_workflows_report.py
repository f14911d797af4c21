# SPDX-License-Identifier: Apache-2.0
"""The report out of a run's folder alone: what it says, that it is current, and what it refuses."""

import hashlib
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from unilogit_jax.cli import main
from unilogit_jax.config import dump_config, load_config
from unilogit_jax.errors import CheckpointError
from unilogit_jax.evaluation import Evaluation, Item, summarize
from unilogit_jax.metrics import ks_interval, mean_interval, truth_ratio
from unilogit_jax.run import Console, MetricsLog, RunFolder, write_json
from unilogit_jax.run.ledger import rows_digest, write_ledger
from unilogit_jax.run.record import note
from unilogit_jax.workflows import report
from unilogit_jax.workflows._report_facts import RunFacts
from unilogit_jax.workflows._stored import write_evaluation

EVIL = '<script>alert(1)</script>" onerror="alert(2)'
ROWS = [("Who is it?", "Vela."), (None, "A text.")]
ATTACK = {
    "rows": [
        {
            "attack": "relearn",
            "setting": EVIL,
            "number": "forget_rouge_l",
            "title": EVIL,
            "wanted": "like gold",
            "values": {"gold": 0.25, "after": 0.625, "before": 1.0},
        },
        {
            "attack": "relearn",
            "setting": "3 rows",
            "number": "updates_to_half",
            "title": "updates",
            "wanted": "like gold",
            "values": {"gold": None, "after": 18, "before": 0},
        },
    ],
    "curves": [
        {"attack": "relearn", "title": EVIL, "x": "updates", "y": EVIL,
         "lines": {"after": [[0, 0.1], [2, None]], "gold": [[0, 0.2]]}}
    ],
    "settings": {
        "relearn": {
            **{"seed": 7, "rows": 3, "kind": EVIL},
            **{"relearn_on": ["forget", "retain"], "rate": None},
        },
        "lens": {"overrides": []},
    },
}  # fmt: skip


def evaluation(seed, *, scale=1.0):
    rng = np.random.default_rng(seed)
    items = [
        Item(
            group=group,
            question=f"{EVIL} {group}{k}?",
            truth="Vela.",
            answer=f"{EVIL} answer {k}",
            nll=float(rng.uniform(0, scale)),
            correct_nll=float(rng.uniform(0, scale)),
            wrong_nll=tuple(rng.uniform(0, 4, 3).tolist()),
            exact=bool(k % 2),
            rouge_l=float(rng.uniform()),
            malformed=False,
            tokens=3,
        )
        for group in ("forget", "retain")
        for k in range(30)
    ]
    return Evaluation(tuple(items), math.nan)


@pytest.fixture
def made(tmp_path):
    """A finished run as `unlearn` leaves it, without its weights."""
    overrides = f"name={json.dumps(EVIL)}", "compare=[{name: npo, label: rival}]", "output.seed=5"
    experiment = load_config("toy", *overrides)
    run = RunFolder.create(tmp_path, "run", config_yaml=dump_config(experiment))
    write_json(run.env, {"verb": "unlearn", "command_line": [EVIL], "versions": {"jax": "1.2.3"},
                         "git": {"commit": "c0ffee", "dirty": True}, "resumed": ["2026-01-02"],
                         "started": "2026-01-01T10:00:00+00:00"})  # fmt: skip
    gold = evaluation(9)
    for name, one in {"gold": gold, "rival": evaluation(3), "after": evaluation(2, scale=5),
                      "before": evaluation(1)}.items():  # fmt: skip
        write_evaluation(run.eval / f"{name}.json", one, summarize(one, gold))
    write_json(run.eval / "lm_eval.json", {"after": {}})
    write_json(run.summary, {"seconds.unlearn": 90.0, "seconds.evaluating": 30.0})
    log = MetricsLog(run.metrics)
    for step in (1, 40):
        log.write(stage="unlearn", step=step, forget_nll=1.0, retain_nll=0.1)
    note(run.path, "data", name="toy", forget=rows_digest(ROWS), retain=rows_digest(ROWS * 3))
    note(run.path, "model", parameters=1_234_567)
    note(run.path, "stages", unlearn={"updates": 50, "tokens": 250.0, "flops": 2e9})
    note(run.path, "memory", host=3 * 2**29)
    note(run.path, "weights", gold="ab12", before="cd34", after="ef56")
    note(run.path, "devices", kind="TPU v5e", count=8, processes=2, mesh={"data": 8})
    note(run.path, "end", warnings=[EVIL])
    facts = {"name": "toy", "forget": EVIL, "method": "unilogit", "run": "r"}
    write_ledger(run.path, ROWS, earlier=[], **facts)
    return run


class Page(HTMLParser):
    """Tags, attributes, and the words between tags; cells are apart."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def page_of(run, **options):
    report(run.path, console=Console(quiet=True), **options)
    return Page(run.report.read_text(encoding="utf-8"))


def test_it_says_what_was_asked_of_what_how_with_what_and_at_what_cost(made):
    text = page_of(made).text
    digest = hashlib.sha256(b"'Who is it?'\n'Vela.'\nNone\n'A text.'\n").hexdigest()
    config = hashlib.sha256(made.config.read_bytes()).hexdigest()
    for words in (
        f"rows to forget 2, SHA-256 {digest}",
        "rows to keep 6, SHA-256",
        f"2 rows of {EVIL} by unilogit, SHA-256 {digest}",
        "weights from made from scratch",
        "parameters 1,234,567",
        "digest of before cd34 digest of after ef56 digest of gold ab12",
        "Method: unilogit what it does The current model is its own teacher",
        "arXiv:2505.06027",
        "Compared with: rival what it does Treats each forget answer",
        "unlearn 1 min 30 s 40 updates, 10,000 tokens, 8.00e+10 operations",
        "8 x TPU v5e, mesh data 8, 2 process(es)",
        "operations in training 8.00e+10, reckoned",
        "peak memory of the process 1.50 GiB",
        "resumed 1 time(s)",
        "c0ffee (with changes)",
        "output.seed 5",
        f"SHA-256 of config.yaml {config}",
        "jax 1.2.3",
        "Run of 2026-01-01 10:00",
    ):
        assert words in text, words


def test_numbers_have_intervals_over_the_items(made):
    page = page_of(made)
    after, gold = evaluation(2, scale=5), evaluation(9)
    forget = [i for i in after.items if i.group == "forget"]
    found = mean_interval(np.exp([-i.nll for i in forget]))
    assert f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]" in page.text
    ratios = [
        truth_ratio(
            np.array([i.correct_nll for i in one.of("forget")]),
            np.array([i.wrong_nll for i in one.of("forget")]),
        )
        for one in (after, gold)
    ]
    distance = ks_interval(*ratios)
    assert f"{distance.value:.3f} [{distance.low:.3f}, {distance.high:.3f}]" in page.text
    assert "0.000 [0.000, 0.000]" not in page.text, "nobody's answer is malformed"
    heads = re.findall(r"metric before after rival gold", page.text)
    assert len(heads) == 1
    alts = [value for tag, name, value in page.attributes if (tag, name) == ("img", "alt")]
    lower = sum(b.nll < a.nll for b, a in zip(evaluation(1).of("forget"), forget, strict=True))
    assert any(f"{lower} of 30 forget answers" in alt for alt in alts) and len(alts) == 5


def test_what_an_attack_finds_later_comes_into_the_page(made):
    assert "relearn" not in page_of(made).text
    write_json(made.path / "attack.json", ATTACK)
    page = page_of(made)
    assert f"relearn, {EVIL} ≈ like gold is best {EVIL} 1.000 0.625 0.250" in page.text
    assert "updates 0 18 never" in page.text
    assert "attack before after gold relearn" in page.text
    made_with = f"relearn (seed 7, rows 3, kind {EVIL}, relearn on forget and retain), lens"
    assert f"{made_with} " in page.text
    assert page.tags.count("img") == 6
    better = summarize(evaluation(4), evaluation(9))
    write_evaluation(made.eval / "after.json", evaluation(4), better)
    assert f"{better['forget_probability']:.3f}" in page_of(made).text


def test_texts_of_strangers_stay_texts(made):
    write_json(made.path / "attack.json", ATTACK)
    page = page_of(made)
    assert "script" not in page.tags and page.text.count(EVIL) > 60
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    loaded = [value for _, name, value in page.attributes if name in ("src", "href")]
    assert loaded and all(value.startswith("data:image/png;base64,") for value in loaded)


def test_the_answers_are_spread_over_both_sides_or_left_out(made, capsys):
    text = page_of(made).text
    asked = [len(re.findall(rf"{group}\d+\?", text)) for group in ("forget", "retain")]
    assert asked == [14, 6]
    assert "forget0?" in text and "forget27?" in text
    assert f"unilogit report {made.path} --no-answers" in text
    assert main(["report", str(made.path), "--no-answers"]) == 0
    assert capsys.readouterr().out.strip() == f"report: {made.report}"
    plain = Page(made.report.read_text(encoding="utf-8")).text
    assert "forget0?" not in plain and "Vela." not in plain and "--no-answers" not in plain


def test_updates_that_were_not_made_cost_nothing(made):
    experiment = load_config(made.config)
    (first, second) = RunFacts(made, experiment).stages()
    assert (first.name, second.name, second.work) == ("unlearn", "evaluating", "")
    assert first.work.startswith("40 updates"), "of 50, the watch having ended the stage"


def test_a_run_that_noted_nothing_is_reported_all_the_same(made):
    for name in ("record.json", "env.json", "ledger.json", "summary.json", "metrics.jsonl"):
        (made.path / name).unlink()
    for name in ("before", "rival", "gold"):
        (made.eval / f"{name}.json").unlink()
    page = page_of(made)
    assert "assed" not in page.text and "forget probability" in page.text


def test_a_run_without_numbers_and_a_damaged_attack_are_refused(made, capsys):
    write_json(made.path / "attack.json", {"rows": [{"attack": "x"}]})
    with pytest.raises(CheckpointError, match=r"attack\.json is no record of attacks"):
        report(made.path)
    for path in made.eval.glob("*.json"):
        path.unlink()
    assert main(["report", str(made.path)]) == 2
    assert "has measured no model yet" in capsys.readouterr().err
