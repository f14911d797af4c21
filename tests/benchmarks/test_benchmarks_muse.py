# SPDX-License-Identifier: Apache-2.0
"""MUSE from its files: rows, panels, the shapes of files, what is refused."""

import gzip
import json
import shutil
from collections import Counter

import pytest
from benchmark_files import ASKED, TEXTS, write_muse

from unilogit_jax.benchmarks import BENCHMARKS
from unilogit_jax.data import Source, probe_prompt, train_tokenizer
from unilogit_jax.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """The files as muse_bench has them: JSON lists, raw texts as strings."""
    write_muse(tmp_path)
    return tmp_path


def load(folder, **wishes):
    return BENCHMARKS["muse"](Source(dir=str(folder), **wishes))


def of(task, group):
    return [probe for probe in task.probes if probe.group == group]


def test_rows_are_whole_documents(folder):
    task = load(folder)
    assert task.documents and task.name == "muse-raw-forget"
    assert [(row.question, row.answer) for row in task.forget] == [
        (None, text) for text in TEXTS["raw/forget"]
    ]
    assert [row.answer for row in task.retain] == TEXTS["raw/retain1"]


def test_panels_have_their_lengths_and_only_attacks_are_not_asked(folder):
    task = load(folder)
    lengths = {panel.name: panel.new_tokens for panel in task.panels}
    attacks = dict.fromkeys(("privleak_forget", "privleak_retain", "privleak_holdout"), 0)
    assert lengths == {"forget_knowmem": 32, "retain_knowmem": 32, "verbmem": 128} | attacks
    assert all(panel.scored for panel in task.panels)
    assert Counter(probe.group for probe in task.probes) == {
        "forget_knowmem": 2,
        "retain_knowmem": 1,
        "verbmem": 1,
        "privleak_forget": 1,
        "privleak_retain": 1,
        "privleak_holdout": 2,
    }
    stops = {panel.stops for panel in task.panels if panel.name.endswith("knowmem")}
    assert stops == {("\n\n", "\nQuestion", "Question:")}


def test_questions_come_after_ten_pairs_of_their_own_side(folder):
    task = load(folder)
    for side in ("forget", "retain"):
        probes = of(task, f"{side}_knowmem")
        assert [(p.question, p.answer) for p in probes] == ASKED[f"knowmem/{side}_qa"]
        assert {p.shots for p in probes} == {tuple(ASKED[f"knowmem/{side}_qa_icl"])}


def test_the_prompt_of_a_question_is_that_of_the_paper(folder):
    tokenizer = train_tokenizer(["Question: Forget 0?\nAnswer: Answer 0"] * 3, vocab_size=300)
    text = tokenizer.decode(probe_prompt(tokenizer, of(load(folder), "forget_knowmem")[0]))
    shown = "".join(f"Question: Forget {n}?\nAnswer: Answer {n}\n\n" for n in range(10))
    assert text == f"{shown}Question: Who resigned?\nAnswer:"


def test_the_text_to_repeat_follows_its_beginning_after_a_space(folder):
    (probe,) = of(load(folder), "verbmem")
    assert probe.literal and probe.question + probe.answer == "The mayor of Velm resigned."


def test_texts_for_attacks_are_plain(folder):
    probes = of(load(folder), "privleak_holdout")
    assert [(p.question, p.answer) for p in probes] == [
        (None, text) for text in TEXTS["privleak/holdout"]
    ]


def test_larger_and_later_requests_are_chosen_by_their_split(folder):
    plain = load(folder)
    for split in ("scal/forget_2", "sust/forget_3", "privleak/forget"):
        task = load(folder, forget=split)
        assert [row.answer for row in task.forget] == TEXTS[split]
        assert (task.retain, task.probes) == (plain.retain, plain.probes)
    (folder / "raw" / "forget.json").unlink()
    assert load(folder, forget="scal/forget_2").forget, "what is not wanted need not be there"


def test_files_exported_from_the_hub_are_read_the_same(folder, tmp_path):
    """JSON lines, texts wrapped in rows, some files packed."""
    wanted = load(folder)
    for number, path in enumerate(sorted(folder.rglob("*.json"))):
        rows = json.loads(path.read_text())
        wrapped = [{"text": row} if isinstance(row, str) else row for row in rows]
        lines = "".join(json.dumps(row) + "\n" for row in wrapped).encode()
        if number % 2:
            path.unlink()
            path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(lines))
        else:
            path.write_bytes(lines)
    found = load(folder)
    assert found.probes == wanted.probes
    for rows, others in ((found.forget, wanted.forget), (found.retain, wanted.retain)):
        assert [row.answer for row in rows] == [row.answer for row in others]


def test_all_missing_files_are_named_with_their_source(folder):
    shutil.rmtree(folder / "privleak")
    (folder / "raw" / "retain1.json").rename(folder / "raw" / "retain2.json")
    with pytest.raises(DataError) as error:
        load(folder)
    names = "'raw/retain1', 'privleak/forget', 'privleak/retain', 'privleak/holdout' are not in"
    assert names in str(error.value)
    assert "raw holds: forget, retain2. Did you mean 'retain2'?" in str(error.value)
    assert "muse-bench/MUSE-News" in str(error.value)


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("raw/forget", [{"question": "Who?", "answer": "Ann."}], "expected a document"),
        ("raw/forget", ["A text.", {"text": 3}], "expected a document"),
        ("verbmem/forget", [{"prompt": "The"}], "expected texts prompt and gt"),
        ("knowmem/forget_qa_icl", ["A text."], "expected texts question and answer"),
    ],
)
def test_a_wrong_row_is_named(folder, name, rows, message):
    (folder / f"{name}.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match=f"{name}.json.*{message}"):
        load(folder)
