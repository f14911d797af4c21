# SPDX-License-Identifier: Apache-2.0
"""ROUGE against a longest common subsequence of our own; exact match and malformed by cases."""

from collections import Counter
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unilogit_jax.errors import DataError
from unilogit_jax.metrics import exact_match, is_malformed, rouge, rouge_many

sentences = st.lists(st.sampled_from("red blue car pet plays the".split()), min_size=1, max_size=9)


def test_rouge_of_a_case_worked_by_hand():
    # 4 of 6 reference words, 4 of 5 predicted words: f1 = 2 * 4 / (5 + 6)
    result = rouge("The cat lay on mat.", "the cat sat on the mat", stemmer=False)
    assert result == pytest.approx((4 / 6, 8 / 11, 4 / 6))


def test_rouge_l_respects_the_order_of_words_and_rouge_1_does_not():
    result = rouge("harp the plays Mira", "Mira plays the harp", stemmer=False)
    assert result == pytest.approx((1.0, 0.25, 0.25))


def test_stemmer_makes_forms_of_a_word_equal_and_is_on_by_default():
    assert rouge("she is playing", "she was played").rouge1_recall == pytest.approx(2 / 3)
    assert rouge("she is playing", "she was played", stemmer=False).rouge1_recall == pytest.approx(
        1 / 3
    )


@settings(deadline=None)
@given(sentences, sentences)
def test_rouge_equals_a_recursive_longest_common_subsequence(predicted, true):
    @cache
    def longest(i, j):
        if i == len(predicted) or j == len(true):
            return 0
        if predicted[i] == true[j]:
            return 1 + longest(i + 1, j + 1)
        return max(longest(i + 1, j), longest(i, j + 1))

    common = longest(0, 0)
    shared = sum((Counter(predicted) & Counter(true)).values())
    expected = (shared / len(true), 2 * common / (len(predicted) + len(true)), common / len(true))
    assert rouge(" ".join(predicted), " ".join(true), stemmer=False) == pytest.approx(expected)


def test_rouge_of_an_empty_text_is_zero():
    assert rouge("", "she plays the harp") == (0.0, 0.0, 0.0)


def test_rouge_many_gives_each_pair_its_own_score():
    texts, truths = ["a red car", "", "the harp"], ["a red car", "a pet", "the violin"]
    assert rouge_many(texts, truths) == [rouge(a, b) for a, b in zip(texts, truths, strict=True)]
    assert rouge_many([], []) == []


def test_rouge_many_refuses_lists_of_different_lengths():
    with pytest.raises(DataError, match="2 texts against 1"):
        rouge_many(["a", "b"], ["a"])


def test_exact_match_ignores_white_space_but_not_case_or_punctuation():
    assert exact_match(" Mira  plays\nthe harp. ", "Mira plays the harp.")
    assert not exact_match("mira plays the harp.", "Mira plays the harp.")
    assert not exact_match("Mira plays the harp", "Mira plays the harp.")
    assert not exact_match("Mira playsthe harp.", "Mira plays the harp.")


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_answer_is_malformed(text):
    assert is_malformed(text, ended=True)


def test_an_answer_without_end_token_is_malformed():
    assert is_malformed("Mira plays the harp.", ended=False)
    assert not is_malformed("Mira plays the harp.", ended=True)


def test_four_words_may_come_three_times_but_not_four_times():
    assert not is_malformed("one two three four " * 3, ended=True)
    assert is_malformed("one two three four " * 4, ended=True)
    assert not is_malformed("so so so so so so", ended=True)
    assert is_malformed("so so so so so so so", ended=True)


def test_an_answer_has_to_match_the_whole_pattern():
    pattern = r"[A-Z]\w+ plays the (?:harp|flute)\."
    assert not is_malformed(" Mira plays the harp.\n", ended=True, pattern=pattern)
    assert is_malformed("Mira plays the harp. She", ended=True, pattern=pattern)
    assert is_malformed("So Mira plays the harp.", ended=True, pattern=pattern)
    assert is_malformed("Mira plays the harpharp.", ended=True, pattern=pattern)


def test_a_wrong_answer_of_the_right_form_is_not_malformed():
    assert not is_malformed("Mira plays the flute.", ended=True, pattern=r"Mira plays the \w+\.")
