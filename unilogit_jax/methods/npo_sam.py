# SPDX-License-Identifier: Apache-2.0
"""NPO made flat in the weights (Fan et al. 2025, arXiv:2502.05374)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from unilogit_jax.methods._fields import NonNegative
from unilogit_jax.methods.npo import Npo


@dataclass(frozen=True, kw_only=True)
class NpoSam(Npo):  # pyright: ignore[reportIncompatibleVariableOverride]
    """NPO with sharpness-aware minimisation: small changes of the weights do not undo it.

    min_w max_{|d| <= rho} L_f(w + d) + retain_weight * NLL(retain; w)
    gradient = grad L_f(w + rho g/|g|) + retain_weight * grad NLL(retain; w),    g = grad L_f(w)

    L_f is the forget loss of NPO. Norms are over all trained weights together, and g is that of the
    whole batch. An update takes three gradients. The log's losses are those at w;
    `sharp_forget_loss` is L_f(w + rho g/|g|).

    rho is a length for the whole vector of weights, so each weight moves by little: where the model
    computes in bfloat16, only those weights move that the rounding of the sum carries over.

    Reference: arXiv:2502.05374, section 4.

    Note: the authors' scripts take rho 0.01 on MUSE and 0.1 on WMDP.
    """

    sharp: ClassVar[bool] = True

    name: Literal["npo_sam"] = "npo_sam"  # pyright: ignore[reportIncompatibleVariableOverride]
    rho: NonNegative = 0.01
    """Length of the step uphill at which the forget gradient is taken; with 0 this is NPO."""
