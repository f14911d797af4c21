# SPDX-License-Identifier: Apache-2.0
"""KL minimisation: ascent on forget, the start model on retain (Maini et al. 2024, 2401.06121)."""

from dataclasses import dataclass
from typing import Literal

from unilogit_jax.methods.grad_diff import Ascent


@dataclass(frozen=True, kw_only=True)
class KlMin(Ascent):
    """Gradient ascent on the forget answers, while the retain answers keep their distribution.

    L = -NLL(forget) + retain_weight * KL(start model || model) on retain

    Reference: arXiv:2401.06121, section 3.

    Note: OpenUnlearning's divergence runs over all positions, padding too, so that its size
    depends on the padding; here over the answers' tokens, or with `retain: kl_open_unlearning` over
    all real positions. That of muse_bench takes logits for probabilities, and is none.
    """

    name: Literal["kl_min"] = "kl_min"
    retain: Literal["nll", "kl", "kl_open_unlearning"] = "kl"
    """Retain term: KL(start model || model); with nll this is the method grad_diff."""
