# SPDX-License-Identifier: Apache-2.0
"""A small benchmark made by code: invented people, some of whom have to be forgotten.

It needs no download and a model for it trains on a CPU in a minute or two, retrained from scratch
without the forgotten people too: the model that unlearning tries to equal.
"""

import random
import re
from typing import Literal, NamedTuple

from unilogit_jax.benchmarks.toy_words import ATTRIBUTES, FIRST_NAMES, LAST_NAMES, Attribute
from unilogit_jax.data.examples import Example, Probe, Source, Task
from unilogit_jax.errors import ConfigError

_WRONG = 4
"""Wrong answers of a probe: guessing gives 0.2."""


def make_task(
    *, seed: int = 0, people: int = 40, phrasings: int = 4, forget_people: int = 4
) -> Task:
    """Invented people, eight facts about each, asked in several ways.

    Every answer is a whole sentence with the full name, the same for all ways of asking. The facts
    are drawn independently, so nothing about one person follows from another; first and last names
    are used equally often, so that all words of a forgotten name also occur in names to keep.

    Args:
      seed: decides names, facts and wrong answers; the same on every machine.
      people: how many people.
      phrasings: trained ways of asking, from 1 to 4.
      forget_people: how many of the people to forget, the first of the list.

    Returns:
      Training rows of people x 8 x phrasings questions; one probe for each person and fact, asked
      in a way that no training row uses, with four wrong answers and the pattern of a well-formed
      one. Every row has its person's name, and the task all names that are nobody's.

    Raises:
      ConfigError: a number is outside what the words allow.

    Example:
      >>> task = make_task(people=3, forget_people=1)
      >>> len(task.forget), len(task.retain), len(task.probes)
      (32, 64, 24)

    """
    _check(people, phrasings, forget_people)
    # Random(int) gives the same stream everywhere; hash() would not.
    rng = random.Random(seed)
    persons = [_Person(name, _draw_facts(rng)) for name in _names(rng, people)]
    forget, retain = persons[:forget_people], persons[forget_people:]
    return Task(
        name="toy",
        forget=tuple(row for person in forget for row in _rows(person, phrasings)),
        retain=tuple(row for person in retain for row in _rows(person, phrasings)),
        probes=(
            *(probe for person in forget for probe in _probes(person, "forget")),
            *(probe for person in retain for probe in _probes(person, "retain")),
        ),
        names=_unused({person.name for person in persons}),
    )


def load_toy(source: Source) -> Task:
    """The toy benchmark as a configuration names it: the usual size, seed `data.seed`."""
    return make_task(seed=source.seed)


class _Person(NamedTuple):
    name: str
    facts: tuple[tuple[str, tuple[str, ...]], ...]
    """For each attribute the value and some other values."""


def _check(people: int, phrasings: int, forget_people: int) -> None:
    most = len(FIRST_NAMES) * len(LAST_NAMES)
    ways = min(len(attribute.questions) for attribute in ATTRIBUTES)
    if not 2 <= people <= most:
        raise ConfigError(
            f"toy benchmark: people={people}, but it takes from 2 to {most} (its pool of names)."
        )
    if not 1 <= phrasings <= ways:
        raise ConfigError(
            f"toy benchmark: phrasings={phrasings}, but there are 1 to {ways} ways of asking."
        )
    if not 1 <= forget_people < people:
        raise ConfigError(
            f"toy benchmark: forget_people={forget_people} of people={people}: "
            "forget at least one and keep at least one."
        )


def _names(rng: random.Random, people: int) -> list[str]:
    """Unique full names; round k pairs each first name with the last name offsets[k] further on."""
    first, last = list(FIRST_NAMES), list(LAST_NAMES)
    offsets = list(range(len(last)))
    for pool in (first, last, offsets):
        rng.shuffle(pool)
    names = []
    for k in range(people):
        turn, place = divmod(k, len(first))
        names.append(f"{first[place]} {last[(place + offsets[turn]) % len(last)]}")
    return names


def _unused(used: set[str]) -> tuple[str, ...]:
    """Full names of the same words that nobody has."""
    every = (f"{first} {last}" for first in FIRST_NAMES for last in LAST_NAMES)
    return tuple(name for name in every if name not in used)


def _draw_facts(rng: random.Random) -> tuple[tuple[str, tuple[str, ...]], ...]:
    facts = []
    for attribute in ATTRIBUTES:
        value = rng.choice(attribute.values)
        others = [other for other in attribute.values if other != value]
        facts.append((value, tuple(rng.sample(others, _WRONG))))
    return tuple(facts)


def _rows(person: _Person, phrasings: int) -> list[Example]:
    return [
        Example(
            question=question.format(name=person.name),
            answer=attribute.answer.format(name=person.name, value=value),
            alternates=tuple(attribute.answer.format(name=person.name, value=w) for w in wrong),
            names=(person.name,),
        )
        for attribute, (value, wrong) in zip(ATTRIBUTES, person.facts, strict=True)
        for question in attribute.questions[:phrasings]
    ]


def _probes(person: _Person, group: Literal["forget", "retain"]) -> list[Probe]:
    return [
        Probe(
            question=attribute.held_out.format(name=person.name),
            answer=attribute.answer.format(name=person.name, value=value),
            group=group,
            wrong=tuple(attribute.answer.format(name=person.name, value=w) for w in wrong),
            pattern=_pattern(attribute),
        )
        for attribute, (value, wrong) in zip(ATTRIBUTES, person.facts, strict=True)
    ]


def _pattern(attribute: Attribute) -> str:
    """The attribute's sentence about anybody, with any value of its pool."""
    values = "|".join(re.escape(value) for value in attribute.values)
    before, after = attribute.answer.removeprefix("{name}").split("{value}")
    return f"[A-Z][a-z]+ [A-Z][a-z]+{re.escape(before)}(?:{values}){re.escape(after)}"
