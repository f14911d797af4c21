# SPDX-License-Identifier: Apache-2.0
"""Evaluations in a run folder: eval/after.json and the like, written and read back."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, NotRequired

from pydantic import FiniteFloat
from typing_extensions import TypedDict

from unilogit_jax.evaluation import Evaluation
from unilogit_jax.paths import AnyPath
from unilogit_jax.run import read_json, write_json
from unilogit_jax.run.files import checked, with_nan
from unilogit_jax.run.shapes import Number


class _Item(TypedDict):
    """An item as it is stored."""

    __pydantic_config__ = {"extra": "forbid"}  # type: ignore[misc]  # noqa: RUF012
    group: str
    question: str | None
    truth: str
    answer: str | None
    nll: Number
    correct_nll: Number
    wrong_nll: list[Number]
    exact: bool
    rouge_l: FiniteFloat
    malformed: bool
    kind: str
    name: str
    others: list[str]
    scores: dict[str, Number]
    tokens: int | None
    wrong_tokens: list[int]


class _File(TypedDict):
    """eval/after.json and the like."""

    suite: NotRequired[str]
    summary: dict[str, Number]
    items: list[_Item]


class Stored(NamedTuple):
    """One model's evaluation, and its numbers as they were when it was measured."""

    summary: dict[str, float]
    evaluation: Evaluation


def write_evaluation(path: AnyPath, evaluation: Evaluation, summary: Mapping[str, float]) -> None:
    """Writes items and numbers as one file."""
    items = evaluation.as_dicts()
    write_json(path, {"suite": evaluation.suite, "summary": summary, "items": items})


def read_evaluation(path: AnyPath) -> Stored:
    """Reads what `write_evaluation` wrote.

    Raises:
      CheckpointError: the file is missing or damaged.

    """
    return _stored(read_json(path, _File))


def read_evaluations(folder: AnyPath) -> dict[str, Stored]:
    """Column -> evaluation, of every model that the folder `eval` has items of.

    Raises:
      CheckpointError: a file is damaged.

    """
    found: dict[str, Stored] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        # Logs are called after.TOFU_EVAL.json; lm_eval.json has no items.
        if path.suffix == ".json" and "." not in path.stem:
            stored = read_json(path)
            if isinstance(stored, dict) and "items" in stored:
                found[path.stem] = _stored(checked(stored, _File, path))

    return found


def _stored(tree: Mapping[str, Any]) -> Stored:
    summary = with_nan(tree["summary"])
    seen = summary.get("retain_seen_accuracy", math.nan)
    made = Evaluation.from_dicts(tree["items"], seen_accuracy=seen, suite=tree.get("suite", ""))
    return Stored(summary, made)
