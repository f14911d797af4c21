# SPDX-License-Identifier: Apache-2.0
"""Invented listings of online sellers, made by code: one seller's have to be forgotten.

It stands in for unlearning on the catalogue of a shop, of which no data are public. It needs no
download, and the small size can be learned from scratch on a CPU.
"""

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from unilogit_jax.benchmarks.shop_words import (
    CATEGORIES,
    DESCRIPTION,
    FACTS,
    GENERAL,
    SELLER_FIRST,
    SELLER_LAST,
    TITLE,
    TITLE_WORDS,
    Asked,
)
from unilogit_jax.data.examples import PANELS, Example, Panel, Probe, Source, Task
from unilogit_jax.errors import ConfigError, suggest

SIZES = {"small": 12, "medium": 387, "large": 1290}
"""Value of `data.forget` -> listings of each of the ten sellers."""

_SELLERS = 10
_WRONG = 4
"""Wrong answers of a probe: guessing gives 0.2."""


def make_task(*, seed: int = 0, size: str = "small", phrasings: int = 3) -> Task:
    """Ten sellers, their listings, and what products in general are for.

    Of each listing category, colour, origin, price band and warranty are asked by its name, and its
    name by a description. Facts are drawn independently, so nothing about one listing follows from
    another or from its name; sellers share all words of their listings' names.

    Args:
      seed: decides names, facts, wrong answers and who is forgotten; the same on every machine.
      size: one of SIZES.
      phrasings: trained ways of asking, from 1 to 3.

    Returns:
      Training rows of listings x 6 x phrasings questions, and 48 x phrasings general ones to keep.
      Probes are asked in a way that no training row uses, with four wrong answers and the pattern
      of a well-formed one: `forget`, the listings of one seller; `neighbor`, for each of these the
      listing of another seller that is most like it; `retain`, others; `utility`, general.

    Raises:
      ConfigError: there is no such size or number of phrasings.

    Example:
      >>> task = make_task()
      >>> len(task.forget), len(task.retain)
      (216, 2088)

    """
    _check(size, phrasings)
    # Random(int) gives the same stream everywhere; hash() would not.
    rng = random.Random(seed)
    shops = _shops(rng, SIZES[size])
    gone, others = shops[0], [listing for shop in shops[1:] for listing in shop]
    near = _neighbours(gone, others)
    taken = {id(listing) for listing in near}
    rest = [listing for listing in others if id(listing) not in taken]
    far = rest[:: max(1, len(rest) // len(gone))][: len(gone)]
    general = [asked for category in CATEGORIES for asked in _general(rng, category.name)]
    kept = [asked for listing in others for asked in listing.asked]
    groups = {
        "forget": [asked for listing in gone for asked in listing.asked],
        "retain": [asked for listing in far for asked in listing.asked],
        "neighbor": [asked for listing in near for asked in listing.asked],
        "utility": general,
    }
    return Task(
        name=f"shop-{size}",
        forget=tuple(_rows(groups["forget"], phrasings)),
        retain=tuple(_rows([*kept, *general], phrasings)),
        probes=tuple(_probe(item, group) for group, items in groups.items() for item in items),
        panels=(*PANELS, Panel(name="neighbor"), Panel(name="utility")),
    )


def load_shop(source: Source) -> Task:
    """The shop as a configuration names it: size `data.forget`, seed `data.seed`."""
    return make_task(seed=source.seed, size=source.forget or "small")


class _Item(NamedTuple):
    """A thing to know, with all that its sentences are filled with."""

    asked: Asked
    words: Mapping[str, str]
    true: Mapping[str, str]
    """What makes the sentence true."""
    wrong: tuple[Mapping[str, str], ...]

    def answer(self, filled: Mapping[str, str]) -> str:
        return self.asked.answer.format(**{**self.words, **filled})

    def false_answers(self) -> tuple[str, ...]:
        return tuple(self.answer(filled) for filled in self.wrong)


class _Listing(NamedTuple):
    facts: tuple[str, ...]
    asked: tuple[_Item, ...]


def _check(size: str, phrasings: int) -> None:
    if size not in SIZES:
        raise ConfigError(
            f"shop benchmark: there is no size '{size}' (data.forget).{suggest(size, SIZES)} "
            f"Sizes: {', '.join(SIZES)}."
        )
    if not 1 <= phrasings <= 3:
        raise ConfigError(
            f"shop benchmark: phrasings={phrasings}, but there are 1 to 3 ways of asking."
        )


def _shops(rng: random.Random, items: int) -> list[list[_Listing]]:
    """The listings of every seller."""
    sellers, titles = _sellers(rng), _titles(rng, _SELLERS * items)
    return [
        _shop(rng, seller, titles[n * items : (n + 1) * items]) for n, seller in enumerate(sellers)
    ]


def _sellers(rng: random.Random) -> list[str]:
    """Ten names, each word being in two of them."""
    first, last = list(SELLER_FIRST), list(SELLER_LAST)
    rng.shuffle(first)
    rng.shuffle(last)
    count = len(first)
    return [f"{first[n % count]} {last[(n + n // count) % count]}" for n in range(_SELLERS)]


def _titles(rng: random.Random, count: int) -> list[str]:
    """Unique names; any 24 in a row that start a round hold every word once."""
    first, second, third = (list(pool) for pool in TITLE_WORDS)
    for pool in (first, second, third):
        rng.shuffle(pool)
    size = len(first)
    titles = []
    for k in range(count):
        turn, place = divmod(k, size)
        # Turn 24 q + r shifts the second word by r, the third by 2 r + q: no name comes twice.
        shift = (place + turn) % size, (place + 2 * turn + turn // size) % size
        titles.append(f"{first[place]} {second[shift[0]]} {third[shift[1]]}")
    return titles


def _shop(rng: random.Random, seller: str, titles: Sequence[str]) -> list[_Listing]:
    """A listing for each name; no two of one seller have the same description."""
    descriptions: set[str] = set()
    listings = []
    for title in titles:
        while True:
            facts = {fact.name: rng.choice(fact.values) for fact in FACTS}
            if (description := DESCRIPTION.format(**facts)) not in descriptions:
                break
        descriptions.add(description)
        words = {"title": title, "seller": seller, "description": description}
        items = [_item(rng, fact, words, facts[fact.name]) for fact in FACTS]
        others = [other for other in rng.sample(titles, _WRONG + 1) if other != title][:_WRONG]
        named = _Item(TITLE, words, {"title": title}, tuple({"title": other} for other in others))
        listings.append(_Listing(tuple(facts.values()), (*items, named)))
    return listings


def _general(rng: random.Random, category: str) -> list[_Item]:
    (known,) = (c for c in CATEGORIES if c.name == category)
    words = {"category": category}
    return [_item(rng, asked, words, getattr(known, asked.name)) for asked in GENERAL]


def _item(rng: random.Random, asked: Asked, words: Mapping[str, str], value: str) -> _Item:
    others = rng.sample([other for other in asked.values if other != value], _WRONG)
    return _Item(asked, words, {"value": value}, tuple({"value": other} for other in others))


def _neighbours(gone: Sequence[_Listing], others: Sequence[_Listing]) -> list[_Listing]:
    """For each listing the other one of its category that shares most facts with it, each once."""
    shelves: dict[str, list[_Listing]] = {}
    for listing in others:
        shelves.setdefault(listing.facts[0], []).append(listing)

    def shared(a: _Listing, b: _Listing) -> int:
        return sum(x == y for x, y in zip(a.facts, b.facts, strict=True))

    near: dict[int, _Listing] = {}
    for listing in gone:
        if shelf := shelves.get(listing.facts[0]):
            best = max(shelf, key=lambda other: shared(listing, other))
            near[id(best)] = best
    return list(near.values())


def _rows(items: Iterable[_Item], phrasings: int) -> Iterable[Example]:
    for item in items:
        answer, alternates = item.answer(item.true), item.false_answers()
        for question in item.asked.questions[:phrasings]:
            yield Example(question.format(**item.words), answer, alternates=alternates)


def _probe(item: _Item, group: str) -> Probe:
    return Probe(
        question=item.asked.held_out.format(**item.words),
        answer=item.answer(item.true),
        group=group,
        wrong=item.false_answers(),
        pattern=_pattern(item.asked),
        kind=item.asked.name,
    )


def _pattern(asked: Asked) -> str:
    """The sentence about any product or category, with any value of its pool."""
    blanks = {
        "title": "[A-Z][a-z]+ [A-Z][a-z]+ [A-Z][a-z]+",
        "category": "[a-z]+",
        "value": f"(?:{'|'.join(map(re.escape, asked.values))})",
    }
    parts = re.split(r"\{(\w+)\}", asked.answer)
    return "".join(blanks[part] if n % 2 else re.escape(part) for n, part in enumerate(parts))
