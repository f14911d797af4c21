# SPDX-License-Identifier: Apache-2.0
"""Words against NLTK's own function, their entropy from its formula, and compression."""

import math

import numpy as np
import pytest
from nltk.tokenize import word_tokenize

from unilogit_jax.metrics import compression_ratio, ngram_entropy, nltk_words

SENTENCES = [
    "She can't, won't and wouldn't've gone: it's Ann's.",
    'He said "no" (twice) -- at 3.5% of $4,000.50...',
    "Where is Löv's café, the 1990s one; by the sea?",
    "I'm gonna go, gimme that!",
    "no end here",
    "J. K. Lind wrote it.",
    "",
]


@pytest.mark.parametrize("text", SENTENCES)
def test_words_of_a_sentence_are_those_of_nltk(text):
    assert nltk_words(text) == word_tokenize(text, preserve_line=True)


def test_each_sentence_ends_with_a_mark_of_its_own():
    parts = "Ann left.", "Did Bo?", "He did!", '"So?" said Cy.', "A. Lind stayed."
    wanted = [word for part in parts for word in word_tokenize(part, preserve_line=True)]
    assert nltk_words(" ".join(parts)) == wanted
    assert word_tokenize(" ".join(parts), preserve_line=True) != wanted, "NLTK knows one sentence"
    # Punkt's list of abbreviations is a download, and missing: the stop is a word of its own.
    assert nltk_words("Dr. Lind left.") == ["Dr", ".", "Lind", "left", "."]


def bits(words, n):
    """Entropy of the runs of n words, in doubles."""
    runs = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
    _, counts = np.unique(runs, return_counts=True)
    p = counts.astype(np.float64) / counts.sum()
    return -np.sum(p * np.log(p)) / np.log(2.0)


@pytest.mark.parametrize("seed", range(3))
def test_entropy_is_that_of_the_formula(seed):
    words = np.random.default_rng(seed).choice(list("abc"), 60).tolist()
    wanted = np.mean([2 / 3 * bits(words, 2), 4 / 3 * bits(words, 3)])
    assert ngram_entropy(words) == pytest.approx(wanted, rel=1e-12)
    text = "Ann can't go. Bo can't go. Ann can't go."
    cut = word_tokenize("Ann can't go.", preserve_line=True)
    other = word_tokenize("Bo can't go.", preserve_line=True)
    wanted = np.mean([2 / 3 * bits(cut + other + cut, 2), 4 / 3 * bits(cut + other + cut, 3)])
    assert ngram_entropy(nltk_words(text)) == pytest.approx(wanted, rel=1e-12)


def test_entropy_of_runs_of_words():
    words = "a b a c a b".split()
    pairs, triples = [2, 1, 1, 1], [1, 1, 1, 1]  # ab twice, ba, ac, ca; all triples once

    def bits(counts):
        total = sum(counts)
        return -sum(c / total * math.log2(c / total) for c in counts)

    wanted = (2 / 3 * bits(pairs) + 4 / 3 * bits(triples)) / 2
    assert ngram_entropy(words) == pytest.approx(wanted, rel=1e-12)
    assert ngram_entropy(["one"]) == 0 == ngram_entropy([])


def test_text_that_repeats_compresses():
    assert compression_ratio("") == 0
    assert compression_ratio("abc " * 100) > 5 * compression_ratio("The cat sat on a green mat.")
