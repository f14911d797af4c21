# SPDX-License-Identifier: Apache-2.0
"""Whether generated text reads like text: its words, their entropy, and how far it compresses."""

import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

_WEIGHTS = {2: 2 / 3, 3: 4 / 3}


def ngram_entropy(words: Sequence[str]) -> float:
    """Weighted entropy of a text's two- and three-word runs, in bits; low for text that loops.

    (1/2) (2/3 H_2 + 4/3 H_3),    H_n = -sum_g f(g) log2 f(g)

    Args:
      words: of the text; `nltk_words` cuts them as RWKU does.

    Returns:
      At least 0, higher is more varied; RWKU prints it times 100. 0 for fewer than two words.

    Example:
      >>> ngram_entropy("a b a b a b".split()) < ngram_entropy("a b c d e f".split())
      True

    Reference: RWKU, arXiv:2406.10890, "fluency"; Zhang et al. 2018, arXiv:1809.05972.
    """
    entropies = [weight * _entropy(words, n) for n, weight in _WEIGHTS.items()]
    return float(np.mean(entropies))


def nltk_words(text: str) -> list[str]:
    """The words and marks of an English text as NLTK cuts them, for `ngram_entropy`.

    Args:
      text: any.

    Returns:
      Words, punctuation and clitics ("n't", "'s"); double quotes become two backquotes or two
      apostrophes.

    Example:
      >>> nltk_words("She can't. He left.")
      ['She', 'ca', "n't", '.', 'He', 'left', '.']

    Reference: Penn Treebank's rules in `nltk.NLTKWordTokenizer`, which `nltk.word_tokenize` applies
      to each sentence; RWKU, arXiv:2406.10890, cuts with the latter.
    Note: `word_tokenize` finds sentences with a Punkt model that has to be downloaded. Here Punkt
      runs without that model and so without its abbreviations: "Dr. Lind" ends a sentence after
      "Dr", and the stop becomes a word of its own. Initials ("A. Lind") are found without it.
    """
    from nltk.tokenize import NLTKWordTokenizer, PunktSentenceTokenizer

    cut = NLTKWordTokenizer().tokenize
    return [word for sentence in PunktSentenceTokenizer().tokenize(text) for word in cut(sentence)]


def compression_ratio(text: str) -> float:
    """Bytes of a text over those it takes when compressed; far above that of prose, it repeats.

    Example:
      >>> compression_ratio("keeps " * 50) > 10 > compression_ratio("A harp is played by hand.")
      True

    """
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def _entropy(words: Sequence[str], n: int) -> float:
    counts = Counter(zip(*(words[i:] for i in range(n)), strict=False))
    shares = np.array(list(counts.values()), np.float64)
    if not len(shares):
        return 0.0
    shares /= shares.sum()
    return float(-(shares * np.log2(shares)).sum())
