# SPDX-License-Identifier: Apache-2.0
"""The invented shop: sizes, who is forgotten, neighbours, what is asked, patterns, determinism."""

import random
import re
from collections import Counter

import pytest

from unilogit_jax.benchmarks.shop import SIZES, _titles, load_shop, make_task
from unilogit_jax.benchmarks.shop_words import (
    CATEGORIES,
    FACTS,
    GENERAL,
    SELLER_FIRST,
    SELLER_LAST,
    TITLE,
    TITLE_WORDS,
)
from unilogit_jax.data import Source
from unilogit_jax.errors import ConfigError
from unilogit_jax.metrics import is_malformed

TASK = make_task()
MEDIUM = make_task(size="medium", phrasings=1)
FACT_NAMES = [fact.name for fact in FACTS]
ASKED = {asked.name: asked for asked in (*FACTS, TITLE, *GENERAL)}
SELLER = f"(?:{'|'.join(SELLER_FIRST)}) (?:{'|'.join(SELLER_LAST)})"
PRODUCT = " ".join(f"(?:{'|'.join(pool)})" for pool in TITLE_WORDS)


def seller(row):
    """The seller in a question, if any."""
    found = re.findall(SELLER, row.question)
    assert len(found) <= 1
    return found[0] if found else None


def product(row):
    """The product that a question or else its answer names."""
    found = re.findall(PRODUCT, f"{row.question} {row.answer}")
    return found[0] if found else None


def words(text):
    return set(re.findall(r"\w+", text))


def of(group, task=TASK):
    return [probe for probe in task.probes if probe.group == group]


def facts_of(probes):
    """Product -> what its probes answer, by what is asked."""
    facts = {}
    for probe in probes:
        facts.setdefault(product(probe), {})[probe.kind] = probe.answer
    return facts


def value(facts, name):
    """What an answer says beyond its sentence."""
    sentence = re.sub(r"\\{title\\}", PRODUCT, re.escape(ASKED[name].answer))
    return re.fullmatch(sentence.replace(r"\{value\}", "(.*)"), facts[name])[1]


@pytest.mark.parametrize(("task", "items", "ways"), [(TASK, 12, 3), (MEDIUM, 387, 1)])
def test_a_size_has_the_stated_counts(task, items, ways):
    assert len(task.forget) == items * 6 * ways
    assert len(task.retain) == 9 * items * 6 * ways + 48 * ways
    counts = Counter(probe.group for probe in task.probes)
    assert counts["forget"] == counts["retain"] == items * 6
    assert 0 < counts["neighbor"] <= items * 6
    assert counts["utility"] == 48
    assert {panel.name for panel in task.panels} == counts.keys()
    rows = (*task.forget, *task.retain)
    assert len({row.question for row in rows}) == len(rows), "no question has two answers"


def test_products_have_names_of_their_own_at_every_size():
    assert len(facts_of(of("forget", MEDIUM))) == SIZES["medium"]
    count = 10 * SIZES["large"]
    assert len(set(_titles(random.Random(0), count))) == count


def test_the_forgotten_seller_and_products_are_in_no_row_to_keep():
    gone = {product(row) for row in TASK.forget}
    (sold_by,) = {seller(row) for row in TASK.forget}
    kept = {product(row) for row in TASK.retain}
    assert len(gone) == 12 and not gone & kept
    assert sold_by not in {seller(row) for row in TASK.retain}
    for probe in TASK.probes:
        assert (seller(probe) == sold_by) == (probe.group == "forget")


@pytest.mark.parametrize("seed", range(5))
def test_all_words_of_what_is_forgotten_are_also_in_what_is_kept(seed):
    task = make_task(seed=seed)
    kept = set().union(*(words(f"{row.question} {row.answer}") for row in task.retain))
    for item in (*task.forget, *of("forget", task)):
        assert words(f"{item.question} {item.answer}") <= kept


def test_sellers_use_all_words_of_product_names_equally_often():
    for place in range(3):
        used = Counter(name.split()[place] for name in facts_of(of("forget", MEDIUM)))
        # 387 = 16 x 24 + 3
        assert len(used) == 24 and set(used.values()) <= {16, 17}


def test_probes_ask_in_a_way_that_is_never_trained_and_in_words_that_are():
    rows = (*TASK.forget, *TASK.retain)
    trained = {row.question for row in rows}
    assert not trained & {probe.question for probe in TASK.probes}
    kept = set().union(*(words(row.question) for row in rows))
    assert all(words(probe.question) <= kept for probe in TASK.probes)


def test_probes_have_the_answers_that_training_gives():
    answers = {row.answer for row in (*TASK.forget, *TASK.retain)}
    assert {probe.answer for probe in TASK.probes} <= answers
    assert {row.answer for row in TASK.forget} == {probe.answer for probe in of("forget")}


def test_wrong_answers_are_four_others_of_the_same_form():
    patterns = {probe.kind: probe.pattern for probe in TASK.probes}
    assert len(set(patterns.values())) == len(ASKED) == 8
    for probe in TASK.probes:
        assert len({probe.answer, *probe.wrong}) == 5
        for answer in (probe.answer, *probe.wrong):
            fitting = [kind for kind in patterns if re.fullmatch(patterns[kind], answer)]
            assert fitting == [probe.kind]
    alternates = {row.answer: set(row.alternates) for row in TASK.forget}
    assert all(alternates[probe.answer] == set(probe.wrong) for probe in of("forget"))


def test_names_that_are_wrong_answers_are_of_the_same_seller():
    sold = {}
    for row in (*TASK.forget, *TASK.retain):
        sold[product(row)] = seller(row)
    for probe in TASK.probes:
        if probe.kind == "title":
            named = [re.search(PRODUCT, text)[0] for text in (probe.answer, *probe.wrong)]
            assert {sold[name] for name in named} == {seller(probe)}


def test_a_description_fits_one_product_of_its_seller():
    asked = Counter(probe.question for probe in MEDIUM.probes if probe.kind == "title")
    assert set(asked.values()) == {1}
    for probe in of("forget"):
        if probe.kind == "title":
            facts = facts_of(of("forget"))[product(probe)]
            for name in ("colour", "category", "origin", "price"):
                assert value(facts, name) in probe.question


def test_a_neighbour_is_of_a_forgotten_category_and_most_like_one_of_its_products():
    gone, near, others = (
        [
            [value(facts, name) for name in FACT_NAMES]
            for facts in facts_of(of(group, MEDIUM)).values()
        ]
        for group in ("forget", "neighbor", "retain")
    )

    def best(facts, among):
        """Most facts that one of the same category shares."""
        same = (other for other in among if other[0] == facts[0])
        return max((sum(map(str.__eq__, facts, other)) for other in same), default=0)

    closest, usual = ([best(facts, among) for facts in gone] for among in (near, others))
    assert all(a >= b for a, b in zip(closest, usual, strict=True))
    assert sum(closest) > sum(usual) + 100
    assert {facts[0] for facts in near} <= {facts[0] for facts in gone}


def test_facts_are_drawn_independently_of_each_other_and_of_names():
    listings = [(name, f) for name, f in facts_of(MEDIUM.probes).items() if name]
    count = len(listings)
    assert count > 1000

    def expected(cells):
        return cells * (1 - (1 - 1 / cells) ** count)

    pairs = {(value(f, "colour"), value(f, "origin")) for _, f in listings}
    assert abs(len(pairs) - expected(256)) < 8
    for place in range(3):
        pairs = {(name.split()[place], value(f, "category")) for name, f in listings}
        assert abs(len(pairs) - expected(576)) < 40


def test_general_knowledge_is_right_and_names_no_product():
    known = {category.name: category for category in CATEGORIES}
    for probe in of("utility"):
        assert product(probe) is None and seller(probe) is None
        (name,) = words(probe.question) & known.keys()
        assert getattr(known[name], probe.kind) in probe.answer
        assert not any(getattr(known[name], probe.kind) in text for text in probe.wrong)


@pytest.mark.parametrize(
    "corrupt",
    [
        lambda text: text.removesuffix("."),
        lambda text: text.lower(),
        lambda text: text.split(" ", 1)[1],
        lambda text: f"{text} {text}",
        lambda text: text.removesuffix(".") + "s.",
    ],
)
def test_corrupted_answers_are_malformed(corrupt):
    for probe in TASK.probes:
        assert not is_malformed(probe.answer, ended=True, pattern=probe.pattern)
        changed = corrupt(probe.answer)
        # A name's last word may end in any letters.
        if probe.kind != "title" or not changed.endswith("s."):
            assert is_malformed(changed, ended=True, pattern=probe.pattern)


def test_more_phrasings_change_no_fact():
    few = make_task(seed=5, phrasings=1)
    assert few.probes == make_task(seed=5, phrasings=3).probes
    assert few.forget == make_task(seed=5, phrasings=3).forget[::3]


def test_a_configuration_names_size_and_seed():
    assert load_shop(Source(seed=4)) == make_task(seed=4)
    assert load_shop(Source(seed=4)) != make_task(seed=5)
    with pytest.raises(ConfigError, match=r"data\.forget"):
        load_shop(Source(forget="forget10"))


def test_words_of_pools_are_unique():
    pools = [SELLER_FIRST, SELLER_LAST, *TITLE_WORDS, *(asked.values for asked in FACTS)]
    everything = [word for pool in pools for word in pool]
    assert len(everything) == len(set(everything))
    assert all(len(pool) == 24 for pool in TITLE_WORDS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": "smal"}, "no size 'smal'.*Did you mean 'small'"),
        ({"phrasings": 0}, "phrasings=0.*1 to 3"),
        ({"phrasings": 4}, "phrasings=4"),
    ],
)
def test_impossible_sizes_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        make_task(**wrong)
