# SPDX-License-Identifier: Apache-2.0
"""From hidden states and a language-model head to log-odds and losses, without the logits."""

from dataclasses import dataclass
from typing import Any, cast, no_type_check

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from unilogit_jax.ops.chunks import Phi
from unilogit_jax.ops.fused import Arrays, How, log_odds_of, loss_of
from unilogit_jax.ops.spread import HeadSharding
from unilogit_jax.ops.sweeps import EXTRAS, Sums
from unilogit_jax.types import IGNORE, Head


# Unchecked at run time: JAX rebuilds the record around shapes and shardings too.
@no_type_check
@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class HeadStats:
    """What a head says about each label, float32; 0 at positions that do not count.

    Only `log_odds` has a gradient. The last four are there if they were asked for.
    """

    log_odds: Float[Array, "*T"]
    """m = z_y - logsumexp over the other logits."""
    label_logit: Float[Array, "*T"]
    """z_y."""
    logsumexp: Float[Array, "*T"]
    """Over all logits; log p_y = label_logit - logsumexp = -softplus(-log_odds)."""
    top_other: Float[Array, "*T"]
    """The largest logit but the label's."""
    hit: Bool[Array, "*T"] | None = None
    """True where greedy decoding would choose the label."""
    logit_mean: Float[Array, "*T"] | None = None
    """Mean of all logits."""
    logprob_mean: Float[Array, "*T"] | None = None
    """sum_j p_j log p_j: the expectation of the log-probability."""
    logprob_var: Float[Array, "*T"] | None = None
    """sum_j p_j (log p_j)^2 minus the square of that."""


def label_log_odds(
    hidden: Float[Array, "*T D"],
    head: Head | Float[Array, "V D"],
    labels: Int[Array, "*T"],
    weights: Float[Array, "*T"],
    *,
    extras: tuple[str, ...] = (),
    sharding: HeadSharding | None = None,
    precision: Any = "auto",
) -> HeadStats:
    """Log-odds of the labels under `softmax(head(hidden))`; the gradient may be asked for later.

    m = z_y - logsumexp_{j != y} z_j,    z = head(hidden)

    The logits are computed block by block and never kept: one matmul forwards, three backwards. The
    label is left out of the sum while summing, and its gradient is never a difference, so both are
    exact for labels the model is sure of. Positions of weight 0 cost nothing.

    Args:
      hidden: the model's last hidden states.
      head: a `Head`, or a bare kernel [V D] without bias and softcap.
      labels: index of the token to predict; positions outside 0..V-1 do not count.
      weights: positions of weight 0 do not count: no gradient, even if they hold NaN. Other
        weights do not change the result.
      extras: what to find besides, some of "hit", "logit_mean", "logprob_moments".
      sharding: how the arrays lie on a mesh, where they are divided; the first axis of the tokens
        is the one that is. Without it the compiler would gather the head for every block.
      precision: of the matmuls, as in `jax.lax.dot`; "auto" is "highest" for float32 hidden states
        (TPUs and TF32 take less by default) and None for bfloat16, which sums in float32 anyway.

    Returns:
      `HeadStats` of shape [*T].

    Raises:
      ValueError: an unknown extra.

    Example:
      >>> hidden, kernel = jnp.ones((3, 2)), jnp.eye(4, 2)
      >>> labels, weights = jnp.array([0, 2, 0]), jnp.array([1.0, 1.0, 0.0])
      >>> stats = label_log_odds(hidden, kernel, labels, weights, extras=("hit",))
      >>> stats.hit
      Array([ True, False, False], dtype=bool)

    """
    how, arrays = _prepare(hidden, head, labels, weights, extras, sharding, precision)
    m, sums = cast(tuple[Array, Sums], log_odds_of(how, arrays))
    return _stats(m, sums, arrays, how)


def head_loss(
    hidden: Float[Array, "*T D"],
    head: Head | Float[Array, "V D"],
    labels: Int[Array, "*T"],
    weights: Float[Array, "*T"],
    phi: Phi,
    *,
    aux: Any = (),
    extras: tuple[str, ...] = (),
    sharding: HeadSharding | None = None,
    precision: Any = "auto",
    budget: int | None = None,
    keep: bool | None = None,
) -> tuple[Float[Array, ""], HeadStats]:
    """A loss of the log-odds whose gradients are made at once: three matmuls in all.

    sum_t weights_t phi(m_t)

    With the slope dL/dm known token by token, the gradients of hidden states and head are made
    while the logits of a chunk are at hand.

    Args:
      hidden: the model's last hidden states.
      head: a `Head`, or a bare kernel [V D] without bias and softcap.
      labels: index of the token to predict; positions outside 0..V-1 do not count.
      weights: weight of each token in the sum: put a mean's divisor, a mask and a loss scale here.
        They carry no gradient.
      phi: (m, aux) -> (loss, dL/dm), token by token; must not close over traced arrays.
      aux: arrays [*T ...] that phi reads too, without gradient.
      extras: as in `label_log_odds`.
      sharding: as in `label_log_odds`; the sum runs over the tokens of all devices.
      precision: as in `label_log_odds`.
      budget: bytes that the logits of a chunk may take; None: 288 MiB.
      keep: True keeps the logits of a chunk, whatever they take; False never does, at the cost of a
        fourth matmul; None: keeps them if those of 512 tokens fit the budget.

    Returns:
      The sum, and the statistics of the tokens, which carry no gradient.

    Example:
      >>> phi = lambda m, aux: (jax.nn.softplus(-m), -jax.nn.sigmoid(-m))  # cross entropy
      >>> labels, weights = jnp.array([0, 3]), jnp.full(2, 0.5)
      >>> loss, _ = head_loss(jnp.zeros((2, 3)), jnp.ones((4, 3)), labels, weights, phi)
      >>> print(f"{loss:.4f}")  # log 4
      1.3863

    """
    how, arrays = _prepare(hidden, head, labels, weights, extras, sharding, precision)
    how = how._replace(budget=budget, keep=keep)
    result = loss_of(how, phi, arrays, jax.lax.stop_gradient(aux))
    total, (m, sums) = cast(tuple[Array, tuple[Array, Sums]], result)
    return total, _stats(jax.lax.stop_gradient(m), sums, arrays, how)


def _prepare(
    hidden: Array,
    head: Head | Array,
    labels: Array,
    weights: Array,
    extras: tuple[str, ...],
    sharding: HeadSharding | None,
    precision: Any,
) -> tuple[How, Arrays]:
    unknown = [name for name in extras if name not in EXTRAS]
    if unknown:
        raise ValueError(f"unknown extra {unknown[0]!r}; known: {', '.join(EXTRAS)}")
    head = head if isinstance(head, Head) else Head(kernel=head)
    if precision == "auto":
        precision = "highest" if hidden.dtype == jnp.float32 else None
    how = How(
        vocab_size=head.vocab_size,
        transposed=head.layout == "dv",
        softcap=head.softcap,
        precision=precision,
        extras=extras,
        sharding=sharding,
    )
    labels = labels.astype(jnp.int32)
    valid = (labels >= 0) & (labels < head.vocab_size)
    weights = jax.lax.stop_gradient(jnp.where(valid, weights.astype(jnp.float32), 0.0))
    labels = jnp.where(weights != 0.0, labels, IGNORE)
    return how, Arrays(hidden, head.kernel, head.bias, labels, weights)


def _stats(m: Array, sums: Sums, arrays: Arrays, how: How) -> HeadStats:
    sums = jax.lax.stop_gradient(sums)
    counts = arrays.weights != 0.0
    found: dict[str, Any] = {}
    logsumexp = jnp.logaddexp(sums.label, sums.others)
    if sums.top_index is not None:
        first = (sums.label == sums.top) & (arrays.labels < sums.top_index)
        found["hit"] = counts & ((sums.label > sums.top) | first)
    if sums.logit_sum is not None:
        found["logit_mean"] = sums.logit_sum / how.vocab_size
    if sums.first is not None and sums.second is not None:
        # log p_j = (z_j - top) + (top - logsumexp), and the label on its own. The variance is taken
        # about the mean: a difference of two large squares would lose its digits.
        shift, own = sums.top - logsumexp, sums.label - logsumexp
        scale, label = jnp.exp(shift), jnp.exp(own)
        mean = scale * (sums.first + shift * sums.total) + label * own
        off = shift - mean
        spread = sums.second + 2.0 * off * sums.first + jnp.square(off) * sums.total
        variance = scale * spread + label * jnp.square(own - mean)
        found["logprob_mean"] = jnp.where(counts, mean, 0.0)
        found["logprob_var"] = jnp.where(counts, variance, 0.0)
    return HeadStats(
        log_odds=m,
        label_logit=sums.label,
        logsumexp=jnp.where(counts, logsumexp, 0.0),
        top_other=sums.top,
        **found,
    )
