# SPDX-License-Identifier: Apache-2.0
"""Scores of a generated answer: ROUGE, exact match, and whether it is a sentence at all."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from unilogit_jax.errors import DataError

_GRAM, _MOST = 4, 3
"""A run of four words more than three times is no longer prose but a loop."""


class Rouge(NamedTuple):
    """Overlap of a text with its reference; each in [0, 1], higher is more alike."""

    rouge1_recall: float
    rougeL_f1: float
    rougeL_recall: float


def rouge(prediction: str, reference: str, *, stemmer: bool = True) -> Rouge:
    """Word overlap of one generated answer with the reference answer.

    Args:
      prediction: generated text.
      reference: the true answer.
      stemmer: compare word stems, as open-unlearning does for TOFU and MUSE; MUSE's own script
        compares whole words.

    Returns:
      Three values in [0, 1]: high is good on retained answers; on forgotten ones the aim is the
      value of a model that never saw them. TOFU reads `rougeL_recall`, MUSE `rougeL_f1`.

    Example:
      >>> rouge("she plays the harp", "he plays the flute").rouge1_recall
      0.5

    Reference: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries"; the `rouge_score`
      package, whose words are runs of lower-cased ASCII letters and digits.
    """
    return rouge_many([prediction], [reference], stemmer=stemmer)[0]


def rouge_many(
    predictions: Sequence[str], references: Sequence[str], *, stemmer: bool = True
) -> list[Rouge]:
    """`rouge` of many answers; the scorer is built once.

    Args:
      predictions: generated texts.
      references: the true answers, in the same order.
      stemmer: as in `rouge`.

    Returns:
      One result per pair.

    Raises:
      DataError: the two lists have different lengths.

    Example:
      >>> rouge_many(["one two"], ["one two three four"])[0].rougeL_recall
      0.5

    """
    from rouge_score import rouge_scorer

    if len(predictions) != len(references):
        raise DataError(f"ROUGE of {len(predictions)} texts against {len(references)} references.")
    scorer = rouge_scorer.RougeScorer(["rouge1", "rougeL"], use_stemmer=stemmer)
    results = []
    for prediction, reference in zip(predictions, references, strict=True):
        score = scorer.score(target=reference, prediction=prediction)
        one, longest = score["rouge1"], score["rougeL"]
        results.append(
            Rouge(float(one.recall), float(longest.fmeasure), float(longest.recall)),
        )
    return results


def exact_match(prediction: str, reference: str) -> bool:
    r"""Whether two texts are the same but for white space; upper and lower case differ.

    Args:
      prediction: generated text.
      reference: the true answer.

    Returns:
      The share of True over items is in [0, 1]: higher is better on retained answers, lower on
      forgotten ones.

    Example:
      >>> exact_match(" A red\ncar.", "A red car.")
      True

    """
    return prediction.split() == reference.split()


def is_malformed(text: str, *, ended: bool, pattern: str | None = None) -> bool:
    r"""Whether a generated answer is no usable answer, right or wrong.

    True if the text is empty, was cut off without an end token, repeats some run of four words more
    than three times, or, where the form of the answers is known, does not have that form.

    Args:
      text: generated text without its end token.
      ended: whether the model wrote an end token.
      pattern: regular expression that the whole text, stripped of outer white space, has to match.

    Returns:
      The share of True over items is in [0, 1], lower is better on every set: a model that was
      never trained on the forgotten items answers them fluently and wrongly.

    Example:
      >>> is_malformed("plays plays plays", ended=True, pattern=r"\w+ plays the \w+")
      True

    Note: a definition of this library. Without a pattern it finds loops and cut-off texts, not
      every kind of nonsense.
    """
    words = text.split()
    if not words or not ended:
        return True
    grams = Counter(zip(*(words[i:] for i in range(_GRAM)), strict=False))
    if grams and max(grams.values()) > _MOST:
        return True
    return pattern is not None and re.fullmatch(pattern, text.strip()) is None
