# SPDX-License-Identifier: Apache-2.0
"""Scores of a model's answers: pure functions of NumPy arrays and strings."""

from unilogit_jax.metrics.probability import (
    KsResult,
    choice_accuracy,
    ks_distance,
    normalised_probability,
    probability,
    truth_ratio,
)
from unilogit_jax.metrics.text import Rouge, exact_match, is_malformed, rouge, rouge_many

__all__ = [
    "KsResult",
    "Rouge",
    "choice_accuracy",
    "exact_match",
    "is_malformed",
    "ks_distance",
    "normalised_probability",
    "probability",
    "rouge",
    "rouge_many",
    "truth_ratio",
]
