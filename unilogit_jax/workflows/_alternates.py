# SPDX-License-Identifier: Apache-2.0
"""Other answers to the questions of forget and retain rows, for methods that teach some."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from unilogit_jax.config import method_name
from unilogit_jax.data import Example, Rows, Task, read_lines
from unilogit_jax.data.refusals import REFUSALS
from unilogit_jax.errors import DataError
from unilogit_jax.methods import Method
from unilogit_jax.types import ALTERNATE, IGNORE, RETAIN_ALTERNATE

Encode = Callable[[Sequence[Example], str], Rows]


def alternate_rows(
    method: Method, task: Task, encode: Encode, *, refusals: str | None, seed: int
) -> dict[int, Rows]:
    """Set -> rows of other answers, as many for each question as there are.

    Args:
      method: its `needs` say which.
      task: forget and retain rows.
      encode: (examples, what they are) -> rows.
      refusals: path of a file with a refusal on each line; None: the usual ones.
      seed: decides which refusal answers which question.

    Raises:
      DataError: a forget row has no other answer, a row to be refused has no question, or the file
        of refusals is not usable.

    """
    needs = method.needs.alternates
    rows = {}
    if "answer" in needs:
        rows[ALTERNATE] = encode(_given(task.forget, method), "alternate answers")
    if needs & {"refusal", "relabelled", "retain_refusal"}:
        lines = REFUSALS if refusals is None else read_lines(refusals)
        rng = random.Random(seed)
        if "refusal" in needs:
            rows[ALTERNATE] = encode(_refused(task.forget, lines, rng, method), "refusals")
        if "relabelled" in needs:
            refusals_of = encode(_refused(task.forget, lines, rng, method), "refusals")
            rows[ALTERNATE] = _relabelled(encode(task.forget, "rows to forget"), refusals_of)
        if "retain_refusal" in needs and task.retain:
            rows[RETAIN_ALTERNATE] = encode(_refused(task.retain, lines, rng, method), "refusals")
    return rows


def _refused(
    examples: Sequence[Example], lines: Sequence[str], rng: random.Random, method: Method
) -> list[Example]:
    text = next((example for example in examples if example.question is None), None)
    if text is not None:
        raise DataError(
            f"{text.where or 'a row'}: method {method_name(method)} answers questions with "
            "refusals, and plain text is no question; give the row a question and an answer."
        )
    return [replace(example, answer=rng.choice(lines)) for example in examples]


def _relabelled(rows: Rows, refusals: Rows) -> Rows:
    """The same tokens to read, and a refusal's to say, over and over, its end token too."""
    labels = rows.labels.copy()
    for own, refusal in zip(labels, refusals.labels, strict=True):
        own[own != IGNORE] = np.resize(refusal[refusal != IGNORE], np.sum(own != IGNORE))
    return replace(rows, labels=labels)


def _given(examples: Sequence[Example], method: Method) -> list[Example]:
    least = min(len(example.alternates) for example in examples)
    bare = next((example for example in examples if not example.alternates), None)
    if bare is not None:
        raise DataError(
            f"{bare.where or 'a row to forget'}: method {method_name(method)} needs other "
            'answers to the forget questions; add "alternates": ["...", ...] to each row, or let '
            "'unilogit generate' write a file of them for data.alternates."
        )
    # Equally many for each question, so that row and answer are found by arithmetic.
    return [replace(e, answer=text) for e in examples for text in e.alternates[:least]]
