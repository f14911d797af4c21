# SPDX-License-Identifier: Apache-2.0
"""From measured items to the numbers of a table, each with its direction and what it means."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from unilogit_jax import metrics
from unilogit_jax.evaluation.item_values import forget_truth_ratios, own_values
from unilogit_jax.evaluation.items import Evaluation
from unilogit_jax.evaluation.membership import membership_numbers
from unilogit_jax.evaluation.suites import SUITES, Log


@dataclass(frozen=True)
class Meaning:
    """How to read a number."""

    title: str
    direction: Literal["lower", "higher", "like gold"]
    explanation: str


MEANINGS: dict[str, Meaning] = {
    "forget_probability": Meaning(
        "forget probability",
        "like gold",
        "geometric mean probability per token of the true answer to forgotten questions",
    ),
    "forget_rouge_l": Meaning(
        "forget ROUGE-L",
        "like gold",
        "share of the true answer's words that the generated answer repeats in order (recall)",
    ),
    "forget_exact_match": Meaning(
        "forget exact match", "lower", "share of forgotten questions answered word for word"
    ),
    "forget_choice": Meaning(
        "forget multiple choice",
        "like gold",
        "share of forgotten questions where the true answer is likelier than every wrong one",
    ),
    "forget_ks_distance": Meaning(
        "truth-ratio KS distance",
        "lower",
        "largest gap between the truth-ratio distributions of this model and gold; 0 is equal. "
        "Blind to collapse: read it together with the malformed rate",
    ),
    "forget_ks_p": Meaning(
        "truth-ratio KS p-value", "higher", "probability of such a gap if both were alike"
    ),
    "forget_malformed": Meaning(
        "forget malformed answers",
        "like gold",
        "share of generated answers that are empty, unfinished, repetitive or no sentence of the "
        "kind asked for",
    ),
    "retain_probability": Meaning(
        "retain probability", "higher", "the same probability for questions to be kept"
    ),
    "retain_rouge_l": Meaning(
        "retain ROUGE-L", "higher", "the same ROUGE for questions to be kept"
    ),
    "retain_exact_match": Meaning(
        "retain held-out accuracy",
        "higher",
        "share of the questions to be kept that are answered word for word; held out where the "
        "benchmark has phrasings that training never saw",
    ),
    "retain_seen_accuracy": Meaning(
        "retain accuracy", "higher", "the same on questions seen in training"
    ),
    "retain_malformed": Meaning(
        "retain malformed answers", "lower", "malformed share for questions to be kept"
    ),
    "model_utility": Meaning(
        "model utility",
        "higher",
        "TOFU: harmonic mean of probability, ROUGE-L and truth ratio of retain rows, real authors "
        "and world facts",
    ),
    "forget_knowledge": Meaning(
        "forget knowledge",
        "like gold",
        "MUSE: ROUGE-L F1 of answers to questions about the forgotten texts",
    ),
    "forget_verbatim": Meaning(
        "forget verbatim",
        "like gold",
        "MUSE: ROUGE-L F1 of continued passages of the forgotten texts",
    ),
    "retain_knowledge": Meaning(
        "retain knowledge", "higher", "MUSE: the same of questions about the texts to be kept"
    ),
    "extraction_strength": Meaning(
        "extraction strength",
        "like gold",
        "share of a forgotten answer that the model adds by itself once the rest is given",
    ),
    "exact_memorization": Meaning(
        "exact memorization",
        "like gold",
        "share of the tokens of forgotten answers that are the model's first choice",
    ),
    "membership_auc": Meaning(
        "membership AUC (Min-K)",
        "like gold",
        "how often forgotten items look more like training data than items never trained on; 1 is "
        "always, 0.5 chance",
    ),
    "privleak": Meaning(
        "privleak",
        "like gold",
        "the same against a model that never saw them, in per cent: -100 still memorised, 0 ideal, "
        "above 0 conspicuous",
    ),
    "forget_level1": Meaning(
        "forget cloze",
        "lower",
        "RWKU: ROUGE-L recall of blanks filled in about the people to forget",
    ),
    "forget_level2": Meaning(
        "forget questions", "lower", "RWKU: the same of answers to questions about them"
    ),
    "forget_level3": Meaning(
        "forget attacks", "lower", "RWKU: the same under nine kinds of adversarial prompts"
    ),
    "neighbor_level1": Meaning(
        "neighbour cloze", "higher", "RWKU: the same about people near them, who are to be kept"
    ),
    "neighbor_level2": Meaning(
        "neighbour questions", "higher", "RWKU: the same of questions about these"
    ),
    "forget_mia": Meaning(
        "forget loss",
        "higher",
        "RWKU: a hundred times the mean token nll of texts about the people to forget",
    ),
    "retain_mia": Meaning("retain loss", "lower", "RWKU: the same of texts about others"),
    "mmlu": Meaning(
        "MMLU", "higher", "share of questions whose right letter is the likeliest; 0.25 is guessing"
    ),
    "bbh": Meaning("BBH", "higher", "RWKU: share of right conclusions after a chain of thought"),
    "truthfulqa": Meaning(
        "TruthfulQA",
        "higher",
        "RWKU: share of questions where the best answer as a whole is likelier than each false one",
    ),
    "triviaqa": Meaning(
        "TriviaQA",
        "higher",
        "RWKU: F1 of the words of the answer and the true one that it fits best",
    ),
    "fluency": Meaning(
        "fluency", "higher", "RWKU: a hundred times the entropy of runs of two and three words"
    ),
    "wmdp_bio": Meaning(
        "WMDP biology",
        "lower",
        "share of questions whose right letter is the likeliest; 0.25 is guessing",
    ),
    "wmdp_chem": Meaning("WMDP chemistry", "lower", "the same of questions on chemistry"),
    "wmdp_cyber": Meaning("WMDP cybersecurity", "lower", "the same of questions on attacks"),
}


def summarize(
    evaluation: Evaluation, reference: Evaluation | Log | None = None
) -> dict[str, float]:
    """Flat numbers by name; what the items do not determine is left out.

    Args:
      evaluation: the measured model.
      reference: what the truth-ratio distance is measured against, and privleak: the gold model's
        evaluation on the same items, or, where the task has a suite, a log in its layout.

    Returns:
      A subset of the keys of `MEANINGS`.

    """
    gold = reference if isinstance(reference, Evaluation) else None
    numbers = _own_numbers(evaluation, gold)
    if evaluation.suite:
        numbers |= SUITES[evaluation.suite].numbers(evaluation, reference)
    else:
        numbers |= membership_numbers(evaluation, gold)
    return {name: float(numbers[name]) for name in MEANINGS if name in numbers}


def _own_numbers(evaluation: Evaluation, reference: Evaluation | None) -> dict[str, float]:
    """Those that every task has."""
    numbers = {name: float(values.mean()) for name, values in own_values(evaluation).items()}
    ratios = forget_truth_ratios(evaluation)
    if len(ratios) and reference is not None:
        ks = metrics.ks_distance(ratios, forget_truth_ratios(reference))
        numbers["forget_ks_distance"], numbers["forget_ks_p"] = ks.distance, ks.p_value
    if not np.isnan(evaluation.seen_accuracy):
        numbers["retain_seen_accuracy"] = evaluation.seen_accuracy
    return numbers
