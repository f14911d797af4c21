# SPDX-License-Identifier: Apache-2.0
"""ROUGE-L recall as another package than `rouge_score` has it, the one that RWKU is scored with."""

from unilogit_jax.errors import DataError


def rouge_package_l_recall(prediction: str, reference: str) -> float:
    """ROUGE-L recall as the Python package `rouge` has it, which RWKU is scored with.

    |words of the reference in some longest common subsequence| / |words of the reference|

    Texts are split into sentences at full stops and into words at white space, with upper and lower
    case as they are. Words are sets: one that comes twice counts once. A word counts if it is in
    the longest common subsequence of some sentence of the reference with some of the prediction.

    Args:
      prediction: generated text. RWKU writes NOANSWER where it is empty.
      reference: the true answer.

    Returns:
      A value in [0, 1]: lower is better on forgotten subjects, higher on their neighbours; 0 for an
      empty prediction.

    Raises:
      DataError: the reference has no words.

    Example:
      >>> rouge_package_l_recall("He wrote Carrie.", "Carrie")
      1.0
      >>> rouge_package_l_recall("he wrote carrie", "Carrie")
      0.0

    Reference: RWKU, arXiv:2406.10890; the package `rouge` 1.0.1.
    """
    true = _sentences(reference)
    if not reference.replace(".", " ").split():
        raise DataError("ROUGE against a reference without words.")
    found = {
        word for a in true for b in _sentences(prediction) for word in _common_subsequence(a, b)
    }
    return len(found) / len({word for sentence in true for word in sentence})


def _sentences(text: str) -> list[list[str]]:
    # " ".split(" ") is an empty word: the package counts it as one, between ". " and the end.
    return [" ".join(part.split()).split(" ") for part in text.split(".") if part]


def _common_subsequence(a: list[str], b: list[str]) -> list[str]:
    """One longest common subsequence; of several, the one that the package finds."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, word in enumerate(a, 1):
        for j, other in enumerate(b, 1):
            longest = max(table[i - 1][j], table[i][j - 1])
            table[i][j] = table[i - 1][j - 1] + 1 if word == other else longest
    found, i, j = [], len(a), len(b)
    while i and j:
        if a[i - 1] == b[j - 1]:
            found.append(a[i - 1])
            i, j = i - 1, j - 1
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return found
