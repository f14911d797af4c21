# SPDX-License-Identifier: Apache-2.0
"""How far one logit is above the mean of all, without making the others."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from unilogit_jax.types import Head


def logit_gap(
    hidden: Float[Array, "*T D"],
    head: Head,
    tokens: Int[Array, "*T"],
    mask: Shaped[Array, "*T"],
) -> Float[Array, "*T"]:
    """A token's logit less the mean of all logits, with a gradient.

    z_k - (1/V) sum_j z_j = h (w_k - mean_j w_j) + b_k - mean_j b_j

    That is exact for logits that are linear in h, and needs one row of the head and the mean of
    its rows. With the likeliest token it is the largest logit less the mean, and has its gradient.

    Args:
      hidden: a model's last hidden states.
      head: its head; padded columns do not count.
      tokens: the tokens; any where `mask` is 0.
      mask: nonzero where it is wanted; 0 elsewhere, whatever is there.

    Raises:
      ValueError: the head caps its logits, whose mean is then no linear function.

    Example:
      >>> head = Head(kernel=jnp.array([[1.0], [3.0], [8.0]]))
      >>> logit_gap(jnp.array([[0.5]]), head, jnp.array([2]), jnp.ones(1))
      Array([2.], dtype=float32)

    """
    if head.softcap is not None:
        raise ValueError(
            f"logit_gap: this head caps its logits at {head.softcap}; their mean is then not that "
            "of its rows. Choose a method without it, or a model without a cap."
        )
    on = mask != 0
    axis = 0 if head.layout == "vd" else 1
    kernel = head.kernel.astype(hidden.dtype)
    tokens = jnp.where(on, tokens, 0)
    rows = jnp.moveaxis(jnp.take(kernel, tokens.ravel(), axis=axis), axis, 0)
    valid = jnp.take(kernel, jnp.arange(head.vocab_size), axis=axis) if _padded(head) else kernel
    mean = jnp.mean(valid.astype(jnp.float32), axis=axis, keepdims=True).reshape(1, -1)
    flat = jnp.where(on[..., None], hidden, 0).reshape(-1, hidden.shape[-1])
    gap = jnp.sum(flat.astype(jnp.float32) * (rows.astype(jnp.float32) - mean), axis=-1)
    if head.bias is not None:
        bias = head.bias.astype(jnp.float32)
        gap = gap + bias[tokens.ravel()] - jnp.mean(bias[: head.vocab_size])
    return jnp.where(on, gap.reshape(tokens.shape), 0.0)


def _padded(head: Head) -> bool:
    return head.vocab_size != head.kernel.shape[0 if head.layout == "vd" else 1]
