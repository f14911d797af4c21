# SPDX-License-Identifier: Apache-2.0
"""Losses from hidden states and a head, for any code base: the logits are never kept."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from unilogit_jax.losses._common import supervised
from unilogit_jax.losses.cross_entropy import cross_entropy_from_log_odds
from unilogit_jax.losses.unilogit import tau_where, unilogit_from_log_odds
from unilogit_jax.ops import (
    Divergence,
    HeadSharding,
    Teacher,
    chunked_divergence,
    label_log_odds,
)
from unilogit_jax.types import Head


def unilogit_head(
    hidden: Float[Array, "*T D"],
    head: Head | Float[Array, "V D"],
    labels: Int[Array, "*T"],
    mask: Shaped[Array, "*T"] | None = None,
    *,
    direction: Literal["reverse", "forward"] = "reverse",
    tau: float | Float[Array, "*T"] | None = None,
    sharding: HeadSharding | None = None,
) -> Float[Array, "*T"]:
    """`unilogit` of `head(hidden)`, without an array of tokens times vocabulary.

    KL(p || t),    p = softmax(head(hidden)),    t_y = 1/V,    t_j = p_j (1 - 1/V) / (1 - p_y)

    Args:
      hidden: a model's last hidden states, of Flax, Equinox or bare functions alike.
      head: a kernel [V D] (a tied embedding, say), or a `Head` with layout, bias and softcap.
      labels: index of the token to predict; positions outside 0..V-1 (such as -100) are ignored.
      mask: nonzero where a position counts; None counts all. The others cost no time.
      direction: as in `unilogit`.
      tau: as in `unilogit`.
      sharding: how the arrays lie on a mesh, where they are divided.

    Returns:
      One value per token, float32 [*T], 0 without gradient at positions that do not count; the
      caller averages over tokens.

    Raises:
      ValueError: if V < 2, the direction is unknown, or `tau` is outside its range.

    Example:
      >>> loss = unilogit_head(jnp.ones((2, 3)), jnp.ones((4, 3)), jnp.array([1, -100]))
      >>> print(f"{loss[0]:.4f} {loss[1]:.4f}")  # the label has probability 1/4 already
      0.0000 0.0000

    Reference: arXiv:2505.06027.
    """
    head = head if isinstance(head, Head) else Head(kernel=head)
    m, valid = _log_odds(hidden, head, labels, mask, sharding)
    tau = tau_where(valid, tau)
    values = unilogit_from_log_odds(m, vocab_size=head.vocab_size, direction=direction, tau=tau)
    return jnp.where(valid, values, 0.0)


def undial_head(
    hidden: Float[Array, "*T D"],
    head: Head | Float[Array, "V D"],
    ref_hidden: Float[Array, "*T E"],
    ref_head: Head | Float[Array, "V E"],
    labels: Int[Array, "*T"],
    mask: Shaped[Array, "*T"] | None = None,
    *,
    beta: float = 10.0,
    sharding: HeadSharding | None = None,
) -> Float[Array, "*T"]:
    """`undial` of two heads, without an array of tokens times vocabulary.

    -sum_k t_k log p_k,    t = softmax(ref_head(ref_hidden) - beta e_y)

    Other divergences and targets, and teachers of which only a few tokens are stored:
    `ops.chunked_divergence`.

    Args:
      hidden: the model's last hidden states.
      head: a kernel [V D], or a `Head`.
      ref_hidden: the frozen reference's last hidden states; no gradient flows to it.
      ref_head: the reference's kernel or `Head`.
      labels: index of the token to predict; positions outside 0..V-1 (such as -100) are ignored.
      mask: nonzero where a position counts; None counts all. The others cost no time.
      beta: how much the label's logit is lowered.
      sharding: how the arrays lie on a mesh, where they are divided; the same for both heads.

    Returns:
      One value per token, float32 [*T], 0 without gradient at positions that do not count.

    Example:
      >>> h, w = jnp.ones((1, 3)), jnp.ones((4, 3))
      >>> print(f"{undial_head(h, w, h, w, jnp.array([1]))[0]:.4f}")  # log 4
      1.3863

    Reference: arXiv:2402.10052.
    """
    head = head if isinstance(head, Head) else Head(kernel=head)
    valid = supervised(labels, mask, head.vocab_size)
    teacher = Teacher(hidden=ref_hidden, head=ref_head)
    lowered = Divergence(direction="cross_entropy", beta=beta)
    weights = valid.astype(jnp.float32)
    return chunked_divergence(
        hidden, head, teacher, labels, weights, lowered, sharding=sharding
    ).values


def cross_entropy_head(
    hidden: Float[Array, "*T D"],
    head: Head | Float[Array, "V D"],
    labels: Int[Array, "*T"],
    mask: Shaped[Array, "*T"] | None = None,
    *,
    sharding: HeadSharding | None = None,
) -> Float[Array, "*T"]:
    """`cross_entropy` of `head(hidden)`, without an array of tokens times vocabulary.

    -log p_y,    p = softmax(head(hidden))

    Args:
      hidden: a model's last hidden states.
      head: a kernel [V D], or a `Head`.
      labels: index of the token to predict; positions outside 0..V-1 (such as -100) are ignored.
      mask: nonzero where a position counts; None counts all. The others cost no time.
      sharding: how the arrays lie on a mesh, where they are divided.

    Returns:
      One value per token, float32 [*T], 0 without gradient at positions that do not count.

    Example:
      >>> loss = cross_entropy_head(jnp.ones((1, 3)), jnp.ones((4, 3)), jnp.array([1]))
      >>> print(f"{loss[0]:.4f}")  # log 4
      1.3863

    """
    head = head if isinstance(head, Head) else Head(kernel=head)
    m, valid = _log_odds(hidden, head, labels, mask, sharding)
    return jnp.where(valid, cross_entropy_from_log_odds(m), 0.0)


def _log_odds(
    hidden: Float[Array, "*T D"],
    head: Head,
    labels: Int[Array, "*T"],
    mask: Shaped[Array, "*T"] | None,
    sharding: HeadSharding | None,
) -> tuple[Float[Array, "*T"], Bool[Array, "*T"]]:
    """The labels' log-odds, and the positions where they count."""
    valid = supervised(labels, mask, head.vocab_size)
    weights = valid.astype(jnp.float32)
    return label_log_odds(hidden, head, labels, weights, sharding=sharding).log_odds, valid
