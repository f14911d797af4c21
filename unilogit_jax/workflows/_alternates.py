# SPDX-License-Identifier: Apache-2.0
"""Other answers to the questions of forget and retain rows, for methods that teach some."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from unilogit_jax.config import method_name
from unilogit_jax.data import Example, Rows, Task, read_lines
from unilogit_jax.data.refusals import REFUSALS
from unilogit_jax.errors import DataError
from unilogit_jax.methods import Method
from unilogit_jax.types import ALTERNATE, RETAIN_ALTERNATE

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
      DataError: a forget row has no other answer, or the rows differ in how many they have.

    """
    needs = method.needs.alternates
    rows = {}
    if "answer" in needs:
        rows[ALTERNATE] = encode(_given(task.forget, method), "alternate answers")
    if "refusal" in needs or "retain_refusal" in needs:
        lines = REFUSALS if refusals is None else read_lines(refusals)
        rng = random.Random(seed)
        if "refusal" in needs:
            rows[ALTERNATE] = encode(_refused(task.forget, lines, rng), "refusals")
        if "retain_refusal" in needs and task.retain:
            rows[RETAIN_ALTERNATE] = encode(_refused(task.retain, lines, rng), "refusals")
    return rows


def _refused(
    examples: Sequence[Example], lines: Sequence[str], rng: random.Random
) -> list[Example]:
    return [replace(example, answer=rng.choice(lines)) for example in examples]


def _given(examples: Sequence[Example], method: Method) -> list[Example]:
    least = min(len(example.alternates) for example in examples)
    bare = next((example for example in examples if not example.alternates), None)
    if bare is not None:
        raise DataError(
            f"{bare.where or 'a row to forget'}: method {method_name(method)} needs other "
            'answers to the forget questions; add "alternates": ["...", ...] to each row.'
        )
    # Equally many for each question, so that row and answer are found by arithmetic.
    return [replace(e, answer=text) for e in examples for text in e.alternates[:least]]
