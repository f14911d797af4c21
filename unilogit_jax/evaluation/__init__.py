# SPDX-License-Identifier: Apache-2.0
"""The teacher-forced pass, generated answers, and the numbers made of both."""

from unilogit_jax.evaluation.answers import Answer
from unilogit_jax.evaluation.evaluator import Evaluator
from unilogit_jax.evaluation.forced import Pass, Scores, make_scorer
from unilogit_jax.evaluation.grad_norms import gradient_norms, make_gradient_norms
from unilogit_jax.evaluation.item_values import forget_truth_ratios, item_values
from unilogit_jax.evaluation.items import Evaluation, Item
from unilogit_jax.evaluation.suites import SUITES, Suite
from unilogit_jax.evaluation.summary import MEANINGS, Meaning, summarize

__all__ = [
    "MEANINGS",
    "SUITES",
    "Answer",
    "Evaluation",
    "Evaluator",
    "Item",
    "Meaning",
    "Pass",
    "Scores",
    "Suite",
    "forget_truth_ratios",
    "gradient_norms",
    "item_values",
    "make_gradient_norms",
    "make_scorer",
    "summarize",
]
