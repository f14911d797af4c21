# SPDX-License-Identifier: Apache-2.0
"""Generated answers: whether there is room for them, where they end, which truth they fit."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from unilogit_jax import metrics
from unilogit_jax.data import Probe
from unilogit_jax.errors import DataError


class Answer(NamedTuple):
    """A generated answer, and whether it came to an end by itself."""

    text: str
    ended: bool


def cut_answer(text: str, stops: Sequence[str], *, ended: bool) -> Answer:
    r"""The answer up to the first of the stops.

    Example:
      >>> cut_answer(" Ann.\nWho?", ["\n"], ended=False)
      Answer(text='Ann.', ended=True)

    """
    short = before_stop(text, stops)
    return Answer(short.strip(), ended or len(short) < len(text))


def before_stop(text: str, stops: Sequence[str]) -> str:
    """The text up to the first of the stops that are not empty."""
    ends = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    return text[: min(ends, default=len(text))]


def check_room(prompts: Sequence[Sequence[int]], most: int, room: int, *, where: str) -> None:
    """Refuses answers that a model has no room for, before anything is measured.

    Args:
      prompts: token ids of the questions.
      most: tokens of the longest answer.
      room: the model's longest row.
      where: what to call the questions.

    Raises:
      DataError: a question with its answer may be longer; it says what to change.

    """
    longest = max(map(len, prompts))
    if longest + most > room:
        free = room - longest
        way = f"lower eval.max_new_tokens to {free}" if free > 0 else "shorten the question"
        raise DataError(
            f"{where}: a question has {longest} tokens, and with an answer of up to {most} that is "
            f"more than the model's longest row ({room}): {way}."
        )


def best_rouges(probes: Sequence[Probe], answers: Mapping[int, Answer]) -> dict[int, metrics.Rouge]:
    """Of each answer with the true one that it fits best."""
    pairs = [
        (number, answer.text, truth)
        for number, answer in answers.items()
        for truth in (probes[number].answer, *probes[number].answers)
    ]
    rouges = metrics.rouge_many([text for _, text, _ in pairs], [truth for *_, truth in pairs])
    best: dict[int, metrics.Rouge] = {}
    for (number, *_), rouge in zip(pairs, rouges, strict=True):
        best[number] = max(best.get(number, rouge), rouge, key=lambda one: one.rougeL_recall)
    return best
