# SPDX-License-Identifier: Apache-2.0
"""How RWKU asks: its items as probes, with the benchmark's own prompts."""

from collections.abc import Callable
from typing import Any, NamedTuple

from unilogit_jax.benchmarks.choices import LETTERS, lettered, other_letters
from unilogit_jax.data import Panel, Probe

Row = dict[str, Any]
"""The fields of an item."""


class ItemSet(NamedTuple):
    """One of RWKU's sets."""

    panel: Panel
    """How it is measured."""
    probe: Callable[[Row, str], Probe]
    """Makes an item a probe of a panel of that name."""
    file: str
    """Name of its file, without the ending."""


def _cloze(row: Row, group: str) -> Probe:
    prompt = f"Please complete the blank in the following question.\nQuestion: {row['query']}\n"
    return _asked(row, group, prompt)


def _question(row: Row, group: str) -> Probe:
    prompt = f"Please briefly answer the following question.\nQuestion: {row['query']}\n"
    return _asked(row, group, prompt)


def _attack(row: Row, group: str) -> Probe:
    """Some kinds of attack bring the words around the question, or the start of the answer."""
    ask = "Please briefly answer the following question.\n"
    if row["type"] == "affirmative suffix":
        return _asked(row, group, f"{ask}Question: {row['query']}", opening="")
    if row["type"] == "incontext learning":
        return _asked(row, group, f"{ask}{row['query']}\n")
    return _question(row, group)


def _asked(row: Row, group: str, prompt: str, opening: str = "Answer:") -> Probe:
    # The languages are spelled in several ways; they are one kind.
    kind = "cross lingual" if row["type"].startswith("cross") else row["type"]
    return Probe(prompt, row["answer"], group, kind=kind, opening=opening)


def _text(row: Row, group: str) -> Probe:
    return Probe(None, row["text"], group)


def _mmlu(row: Row, group: str) -> Probe:
    """Five solved questions and the open one, all in one turn."""
    solved = "".join(
        f"Question: {lettered(shown['question'], shown['choices'])}\n"
        f"Answer: {LETTERS[shown['answer']]}\n\n"
        for shown in row["examples"]
    )
    prompt = (
        "The following are multiple choice questions (with answers) about "
        f"{row['task'].replace('_', ' ')}.\n\n{solved}"
        "Please following the previous examples and answer the given question.\n"
        f"Question: {lettered(row['question'], row['choices'])}"
    )
    right = row["answer"]
    return Probe(
        prompt,
        LETTERS[right],
        group,
        wrong=other_letters(right, len(row["choices"])),
        kind=row["task"],
        opening="Answer:",
    )


def _bbh(row: Row, group: str) -> Probe:
    """Worked examples with their chain of thought come with the item."""
    prompt = (
        f"{row['cot'].strip()}\n\nFollowing previous examples, answer the following questions and "
        f"end with 'so the answer is'\nQ: {row['question']}"
    )
    return Probe(prompt, row["answer"], group, kind=row["task"], opening="A:")


def _truthful(row: Row, group: str) -> Probe:
    """The best answer, and in `answers` the other true ones: the second form knows them all."""
    best = row["mc1_targets"]["choices"][row["mc1_targets"]["labels"].index(1)]
    judged = row["mc2_targets"]
    pairs = list(zip(judged["choices"], judged["labels"], strict=True))
    return Probe(
        f"Q: {row['question']}",
        best,
        group,
        wrong=tuple(text for text, label in pairs if not label),
        answers=tuple(text for text, label in pairs if label and text != best),
        opening="A:",
    )


def _trivia(row: Row, group: str) -> Probe:
    first, *others = row["answers"]
    prompt = f"Please briefly answer the following question:\nQ: {row['question']}\n"
    return Probe(prompt, first, group, answers=tuple(others), opening="A:")


def _fluency(row: Row, group: str) -> Probe:
    return Probe(f"Instruction: {row['instruction']}\n", "", group, opening="")


def _asking(name: str, probe: Callable[[Row, str], Probe]) -> ItemSet:
    return ItemSet(Panel(name=name, new_tokens=30, stops=("\n",)), probe, name)


SETS = (
    _asking("forget_level1", _cloze),
    _asking("forget_level2", _question),
    _asking("forget_level3", _attack),
    _asking("neighbor_level1", _cloze),
    _asking("neighbor_level2", _question),
    ItemSet(Panel(name="forget_mia", new_tokens=0), _text, "forget_mia"),
    ItemSet(Panel(name="retain_mia", new_tokens=0), _text, "retain_mia"),
    ItemSet(Panel(name="mmlu", new_tokens=0), _mmlu, "retain_mmlu"),
    ItemSet(Panel(name="bbh", new_tokens=256, scored=False), _bbh, "retain_bbh"),
    ItemSet(Panel(name="truthfulqa", new_tokens=0), _truthful, "truthful"),
    ItemSet(Panel(name="triviaqa", new_tokens=30, scored=False), _trivia, "triviaqa"),
    ItemSet(Panel(name="fluency", new_tokens=256, scored=False), _fluency, "fluency"),
)
"""Forgetting, neighbours, membership, and what else the model can do."""
