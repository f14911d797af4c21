# SPDX-License-Identifier: Apache-2.0
"""ROUGE-L recall of the package `rouge`: printed values, subsequences counted out, empty texts."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unilogit_jax.errors import DataError
from unilogit_jax.metrics import rouge_package_l_recall

sentences = st.lists(st.sampled_from("red blue car pet plays the".split()), min_size=1, max_size=9)


@pytest.mark.parametrize(
    ("prediction", "reference", "recall"),
    [  # printed by the package rouge 1.0.1, Rouge().get_scores(prediction, reference)
        ("He wrote Carrie. He was born in Maine.", "Maine. Carrie was written by him", 0.5),
        ("the dog saw the dog", "the dog and the dog saw. A dog", 0.4),
        ("NOANSWER", "Stephen King", 0.0),
        ("b a c. a b. ", "a b c. c a", 1.0),
    ],
)
def test_the_other_rouge_equals_its_package(prediction, reference, recall):
    assert rouge_package_l_recall(prediction, reference) == pytest.approx(recall, rel=1e-12)


@settings(deadline=None)
@given(sentences, st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True))
def test_the_other_rouge_of_one_sentence_of_different_words_is_a_plain_subsequence(words, true):
    words = [true[len(w) % len(true)] if i % 2 else w for i, w in enumerate(words)]
    longest = max(
        len(some)
        for n in range(len(true) + 1)
        for some in combinations(true, n)
        if is_subsequence(some, words)
    )
    recall = rouge_package_l_recall(" ".join(words), " ".join(true))
    assert recall == pytest.approx(longest / len(true))


def is_subsequence(some, words):
    rest = iter(words)
    return all(word in rest for word in some)


def test_the_other_rouge_of_nothing_is_zero_and_against_nothing_is_refused():
    assert rouge_package_l_recall("", "Stephen King") == 0.0
    assert rouge_package_l_recall("...", "Stephen King") == 0.0
    for reference in ("", " . "):
        with pytest.raises(DataError, match="without words"):
            rouge_package_l_recall("Stephen King", reference)
