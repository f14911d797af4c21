# SPDX-License-Identifier: Apache-2.0
"""Scores of a model's answers: pure functions of NumPy arrays and strings."""

from unilogit_jax.metrics.fluency import compression_ratio, ngram_entropy, nltk_words
from unilogit_jax.metrics.intervals import (
    Interval,
    SeedSpread,
    ks_interval,
    mean_interval,
    paired_interval,
    seed_spread,
    welch_interval,
)
from unilogit_jax.metrics.logs import items_of, summarize_muse_log, summarize_tofu_log, truth_ratios
from unilogit_jax.metrics.membership import (
    auc,
    min_k,
    min_k_plus_plus,
    privleak,
    relative_difference,
    zlib_score,
)
from unilogit_jax.metrics.memorization import exact_memorization, extraction_strength
from unilogit_jax.metrics.probability import (
    KsResult,
    choice_accuracy,
    choice_hits,
    ks_distance,
    normalised_probability,
    probability,
    truth_ratio,
)
from unilogit_jax.metrics.rouge_package import rouge_package_l_recall
from unilogit_jax.metrics.text import Rouge, exact_match, is_malformed, rouge, rouge_many
from unilogit_jax.metrics.utility import model_utility, truth_ratio_score

__all__ = [
    "Interval",
    "KsResult",
    "Rouge",
    "SeedSpread",
    "auc",
    "choice_accuracy",
    "choice_hits",
    "compression_ratio",
    "exact_match",
    "exact_memorization",
    "extraction_strength",
    "is_malformed",
    "items_of",
    "ks_distance",
    "ks_interval",
    "mean_interval",
    "min_k",
    "min_k_plus_plus",
    "model_utility",
    "ngram_entropy",
    "nltk_words",
    "normalised_probability",
    "paired_interval",
    "privleak",
    "probability",
    "relative_difference",
    "rouge",
    "rouge_many",
    "rouge_package_l_recall",
    "seed_spread",
    "summarize_muse_log",
    "summarize_tofu_log",
    "truth_ratio",
    "truth_ratio_score",
    "truth_ratios",
    "welch_interval",
    "zlib_score",
]
