# SPDX-License-Identifier: Apache-2.0
"""Gradient ascent alone (Jang et al. 2022, arXiv:2210.01504)."""

from dataclasses import dataclass
from typing import Literal

from unilogit_jax.methods._fields import Weight
from unilogit_jax.methods.grad_diff import Ascent


@dataclass(frozen=True, kw_only=True)
class GradAscent(Ascent):
    """Raises the negative log-likelihood of the forget answers without bound; nothing is retained.

    L = -NLL(forget)

    Reference: arXiv:2210.01504.
    """

    name: Literal["grad_ascent"] = "grad_ascent"
    retain_weight: Weight = 0.0
    """Weight of the retain term; 0 leaves it out."""
