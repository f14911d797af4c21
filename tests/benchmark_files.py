# SPDX-License-Identifier: Apache-2.0
"""Files of MUSE, RWKU and WMDP in their published forms, with invented and neutral content."""

import gzip
import json
from pathlib import Path

TEXTS = {
    "raw/forget": ["The mayor of Velm resigned.\n\nHe had no comment.", "Rain fell on Osk."],
    "raw/retain1": ["The ferry to Brin runs daily."],
    "scal/forget_2": ["The mayor of Velm resigned.", "Rain fell on Osk.", "Snow fell on Tarn."],
    "sust/forget_1": ["The mayor of Velm resigned in spring."],
    "sust/forget_2": ["Rain fell on Osk for a week."],
    "sust/forget_3": ["A third request."],
    "privleak/forget": ["The mayor of Velm resigned."],
    "privleak/retain": ["The ferry to Brin runs daily."],
    "privleak/holdout": ["A bridge opened in Lund.", "Nobody came."],
}
ASKED = {
    "knowmem/forget_qa": [("Who resigned?", "The mayor"), ("Of which town?", "Velm")],
    "knowmem/retain_qa": [("Where does the ferry go?", "Brin")],
    "knowmem/forget_qa_icl": [(f"Forget {n}?", f"Answer {n}") for n in range(10)],
    "knowmem/retain_qa_icl": [(f"Keep {n}?", f"Answer {n}") for n in range(10)],
}
VERBATIM = [{"prompt": "The mayor of", "gt": "Velm resigned."}]

PEOPLE = {
    "1_Vela_Dorn": "Vela Dorn",
    "2_Oska_Prim": "Oska Prim",
    "3_Tam,_Duke_of_Lund": "Tam, Duke of Lund",
}
SHARED = {"question": "Which is a colour?", "choices": ["two", "red", "up", "Bo"], "answer": 1}


def items(name):
    """One or two invented items of every set, about one person."""
    cloze = {"query": f"{name} was born in ___", "answer": "Lund", "type": "cloze"}
    asked = {"query": f"Where was {name} born?", "answer": "Lund", "type": "simple question"}
    shown = {"question": "Which is a number?", "choices": ["red", "up", "two", "Bo"], "answer": 2}
    judged = {"choices": ["Yes.", "It is.", "No."], "labels": [1, 1, 0]}
    return {
        "forget_level1": [cloze],
        "forget_level2": [asked],
        "forget_level3": [
            {**asked, "type": "role play"},
            {**asked, "type": "affirmative suffix", "query": "Where? Sure, it is"},
            {**asked, "type": "incontext learning", "query": f"Question: Who? Answer: {name}"},
            {**asked, "type": "cross-lingual (French)"},
            {**asked, "type": "cross lingual (Spanish)", "query": "¿Dónde?"},
        ],
        "neighbor_level1": [{**cloze, "neighbor": "Lund"}],
        "neighbor_level2": [{**asked, "neighbor": "Lund"}],
        "forget_mia": [{"text": f"{name} of\u2028Lund\u0085.", "ngram": 3}],
        "retain_mia": [{"text": "A town.", "ngram": 2}],
        "passage": [{"text": f"{name} lives in Lund."}, {"text": f"{name} bakes."}],
        "retain_mmlu": [{**SHARED, "task": "plain_words", "examples": [shown] * 5}],
        "retain_bbh": [
            {
                "task": "order",
                "cot": "Sort.\n\nQ: b a\nA: a b.\n",
                "question": "c b",
                "answer": "b c",
            }
        ],
        "truthful": [{"question": "Is it?", "mc1_targets": judged, "mc2_targets": judged}],
        "triviaqa": [{"question": "Which town?", "answers": ["Lund", "Lunde"]}],
        "fluency": [{"instruction": "Write a line."}],
    }


QUESTION = {"question": " Which is a colour?\n", "choices": ["two", "red", "up", "Bo"], "answer": 1}
OTHER = {"question": "Which is a number?", "choices": ["red", "up", "Bo", "two"], "answer": 3}


def lines(rows):
    return "\n".join(map(json.dumps, rows)) + "\n"


def write_muse(folder: Path) -> None:
    """JSON lists as muse_bench has them, raw texts as strings."""
    rows = {name: list(texts) for name, texts in TEXTS.items()} | {"verbmem/forget": VERBATIM}
    for name, pairs in ASKED.items():
        rows[name] = [{"question": q, "answer": a} for q, a in pairs]
    for name in ("forget", "retain", "holdout"):
        rows[f"privleak/{name}"] = [{"text": text} for text in TEXTS[f"privleak/{name}"]]
    rows["raw/forget"].insert(1, "")  # as one of the News articles is
    for name, values in rows.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(values))


def write_rwku(folder: Path) -> None:
    """One file for each set, a half of them packed."""
    rows = {}
    for directory, name in PEOPLE.items():
        for part, some in items(name).items():
            rows.setdefault(part, []).extend(
                {**row, "subject": name, "target_dir": directory} for row in some
            )
    for n, (part, some) in enumerate(rows.items()):
        text = "\n".join(json.dumps(row, ensure_ascii=False) for row in some).encode()
        packed = n % 2
        path = folder / f"{part}.jsonl{'.gz' * packed}"
        path.write_bytes(gzip.compress(text) if packed else text)


def write_wmdp(folder: Path) -> None:
    """Questions in three forms, MMLU in two, corpora as JSON and as text."""
    import datasets

    (folder / "wmdp-bio").mkdir()
    table = datasets.Dataset.from_list([QUESTION, OTHER])
    table.to_parquet(str(folder / "wmdp-bio" / "test-00000-of-00001.parquet"))
    (folder / "cyber_questions.json").write_text(json.dumps([OTHER]))
    (folder / "mmlu").mkdir()
    (folder / "mmlu" / "plain_words.jsonl").write_text(lines([QUESTION]))
    for name in ("small_numbers", "all"):
        (folder / "mmlu" / name).mkdir()
        (folder / "mmlu" / name / "test.json").write_text(lines([OTHER]))
    (folder / "bio-forget-corpus.jsonl").write_text(lines([{"title": "T", "text": "One.\nTwo."}]))
    (folder / "cyber-forget-corpus.jsonl").write_text('First {"a": 1} text\n\n{not} JSON\n')
    (folder / "wikitext.txt").write_text(" = Head = \n[1] A line\n")
