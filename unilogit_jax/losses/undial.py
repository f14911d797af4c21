# SPDX-License-Identifier: Apache-2.0
"""UnDIAL: self-distillation with adjusted logits (Dong et al. 2024, arXiv:2402.10052)."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from unilogit_jax.errors import check_choice
from unilogit_jax.losses._common import supervised
from unilogit_jax.ops import label_columns


def undial(
    logits: Float[Array, "*T V"],
    ref_logits: Float[Array, "*T V"],
    labels: Int[Array, "*T"],
    mask: Shaped[Array, "*T"] | None = None,
    *,
    beta: float = 10.0,
    compat: Literal["none", "open_unlearning"] = "none",
) -> Float[Array, "*T"]:
    """Cross entropy against a frozen teacher whose label logit was lowered.

    -sum_k t_k log p_k,    t = softmax(ref_logits - beta e_y),    p = softmax(logits)

    Args:
      logits: scores of every vocabulary entry, any float dtype; computed in float32.
      ref_logits: the frozen reference's scores; no gradient flows to them.
      labels: index of the observed token; positions outside 0..V-1 (such as -100) are ignored.
      mask: nonzero where a position counts; None counts all.
      beta: how much the label's logit is lowered; the authors use 3, 10 or 30.
      compat: "open_unlearning" repeats what that code base does: positions without a label count
        too, and their label is taken from the end, so that -100 lowers entry V - 100. Its mean is
        over all positions, prompt and padding included: give no mask.

    Returns:
      One value per token, float32 [*T], 0 without gradient at positions that do not count; the
      caller averages. The gradient with respect to the logits is p - t.

    Raises:
      ValueError: `compat` is unknown.

    Example:
      >>> z = jnp.zeros((1, 2))
      >>> print(f"{undial(z, z, jnp.array([0]), beta=0.0)[0]:.4f}")  # log 2
      0.6931

    Reference: arXiv:2402.10052.
    Note: the strength is gamma in part of the literature, beta in the authors' settings for
      OpenUnlearning.
    """
    check_choice("compat", compat, ("none", "open_unlearning"))
    if compat == "open_unlearning":
        labels = labels % logits.shape[-1]
    valid = supervised(labels, mask, logits.shape[-1])[..., None]
    z = jnp.where(valid, logits.astype(jnp.float32), 0.0)
    ref = jax.lax.stop_gradient(jnp.where(valid, ref_logits.astype(jnp.float32), 0.0))
    at_label = label_columns(labels, logits.shape[-1])
    teacher = jax.nn.softmax(jnp.where(at_label, ref - beta, ref), axis=-1)
    # A teacher entry of 0 has no say, also where log p is -inf (padding columns of a head).
    terms = jnp.where(valid & (teacher > 0), teacher * jax.nn.log_softmax(z, axis=-1), 0.0)
    return -jnp.sum(terms, axis=-1)
