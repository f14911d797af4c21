# SPDX-License-Identifier: Apache-2.0
"""What one model does with every probe of a task, as plain data."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Item:
    """What one model does with one probe."""

    group: str
    question: str | None
    truth: str
    answer: str | None
    """What it generated; None if it was not asked."""
    nll: float | None
    """Mean negative log-likelihood of the true answer's tokens; None if nothing was scored."""
    correct_nll: float | None
    """The same of its paraphrase, where there is one; what `wrong_nll` is compared with."""
    wrong_nll: tuple[float, ...]
    exact: bool
    rouge_l: float
    malformed: bool
    kind: str = ""
    name: str = ""
    """What the data call it."""
    others: tuple[str, ...] = ()
    """Further true answers."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Further numbers by name, those that a suite or an attack on membership reads."""
    tokens: int | None = None
    """How many tokens of the true answer `nll` is the mean of."""
    wrong_tokens: tuple[int, ...] = ()
    """The same of each of `wrong_nll`."""


@dataclass(frozen=True)
class Evaluation:
    """Every item, and the accuracy on rows that training has seen."""

    items: tuple[Item, ...]
    seen_accuracy: float
    suite: str = ""
    """Of the task, if it has any."""

    def of(self, group: str) -> list[Item]:
        """The items of one panel."""
        return [item for item in self.items if item.group == group]

    def as_dicts(self) -> list[dict[str, Any]]:
        """The items as plain data."""
        return [asdict(item) for item in self.items]

    def asked(self) -> list[tuple[Any, ...]]:
        """What every item is about, without what came out: equal for models asked the same."""
        return [
            (i.group, i.question, i.truth, i.answer is None, len(i.wrong_nll)) for i in self.items
        ]

    @classmethod
    def from_dicts(
        cls, items: Iterable[Mapping[str, Any]], *, seen_accuracy: float, suite: str
    ) -> "Evaluation":
        """The evaluation whose items `as_dicts` gave and JSON has kept."""
        return cls(tuple(_item(one) for one in items), seen_accuracy, suite)


def _item(one: Mapping[str, Any]) -> Item:
    """An item out of JSON, where numbers that are not finite are null."""
    scored = one["tokens"] is not None
    numbers = {name: _number(one[name]) if scored else one[name] for name in ("nll", "correct_nll")}
    numbers["wrong_nll"] = tuple(_number(x) for x in one["wrong_nll"])
    lists = {name: tuple(one[name]) for name in ("wrong_tokens", "others")}
    scores = {name: _number(x) for name, x in one["scores"].items()}
    return Item(**{**one, **numbers, **lists, "scores": scores})


def _number(value: float | None) -> float:
    return math.nan if value is None else value
