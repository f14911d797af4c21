# SPDX-License-Identifier: Apache-2.0
"""From hidden states and a language-model head to log-odds and losses, without the logits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast, no_type_check

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from unilogit_jax.ops.blocks import LONGEST_ROW
from unilogit_jax.ops.fused import Arrays, How, loss_of, parts_of, split_head
from unilogit_jax.ops.labels import Groups, LabelTask
from unilogit_jax.ops.spread import HeadSharding
from unilogit_jax.ops.sweeps import EXTRAS, FAR, Sums
from unilogit_jax.types import IGNORE, Head, head_precision


# Unchecked at run time: JAX rebuilds the record around shapes and shardings too.
@no_type_check
@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class HeadStats:
    """What a head says about each label, float32; 0 at positions that do not count.

    Only `log_odds`, `pick_logprobs` and `tail_logprob` have a gradient. Those that may be None are
    there if they were asked for.
    """

    log_odds: Float[Array, "*T"]
    """m = z_y - logsumexp over the other logits."""
    label_logit: Float[Array, "*T"]
    """z_y."""
    logsumexp: Float[Array, "*T"]
    """Over all logits; log p_y = label_logit - logsumexp = -softplus(-log_odds)."""
    top_other: Float[Array, "*T"]
    """The largest logit but the label's."""
    pick_logprobs: Float[Array, "*T k"] | None = None
    """log p of the picks."""
    tail_logprob: Float[Array, "*T"] | None = None
    """log of the probability of all that is neither label nor pick, summed up without them."""
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
    picks: Int[Array, "*T k"] | None = None,
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
      picks: tokens whose log-probabilities are wanted too. Those that are no token, the label, or
        there already have log-probability -inf.
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
    how, arrays = prepare(hidden, head, labels, weights, sharding, precision, label_task(extras))
    arrays = arrays._replace(picks=None if picks is None else picks.astype(jnp.int32))
    groups, sums = cast(tuple[Groups, Sums], parts_of(how, arrays))
    return stats_of(groups, jax.lax.stop_gradient(sums), arrays, how.form.vocab_size)


def head_loss(
    hidden: Float[Array, "*T D"],
    head: Head | Float[Array, "V D"],
    labels: Int[Array, "*T"],
    weights: Float[Array, "*T"],
    phi: Callable[[Array, Any], tuple[Array, Array]],
    *,
    aux: Any = (),
    extras: tuple[str, ...] = (),
    sharding: HeadSharding | None = None,
    precision: Any = "auto",
    budget: int | None = None,
    keep: bool | None = None,
    whole_rows: bool = False,
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
      whole_rows: True hands `phi` all tokens of a row that count at once, other rows beside them,
        and empty places with weight and aux of 0, so that it may join tokens of a row. What it
        returns is added up: the loss of several tokens may stand at the first place, which is a
        token's if any is. Rows lie along the last axis of T, and are at most `LONGEST_ROW` long.

    Returns:
      The sum, and the statistics of the tokens, which carry no gradient.

    Raises:
      ValueError: an unknown extra, or `whole_rows` with rows that are too long.

    Example:
      >>> phi = lambda m, aux: (jax.nn.softplus(-m), -jax.nn.sigmoid(-m))  # cross entropy
      >>> labels, weights = jnp.array([0, 3]), jnp.full(2, 0.5)
      >>> loss, _ = head_loss(jnp.zeros((2, 3)), jnp.ones((4, 3)), labels, weights, phi)
      >>> print(f"{loss:.4f}")  # log 4
      1.3863

    """
    how, arrays = prepare(hidden, head, labels, weights, sharding, precision, label_task(extras))
    if whole_rows and labels.shape[-1] > LONGEST_ROW:
        raise ValueError(f"rows of {labels.shape[-1]} tokens; whole_rows takes {LONGEST_ROW}.")
    how = how._replace(budget=budget, keep=keep, whole_rows=whole_rows)
    aux = jax.lax.stop_gradient(aux)
    total, sums = cast(tuple[Array, Sums], loss_of(how, _OnLogOdds(phi), arrays, aux))
    sums = jax.lax.stop_gradient(sums)
    groups = Groups(sums.label, sums.others)
    return total, stats_of(groups, sums, arrays, how.form.vocab_size)


@dataclass(frozen=True)
class _OnLogOdds:
    """A function of the log-odds as one of what a sweep finds; equal if the functions are."""

    phi: Callable[[Array, Any], tuple[Array, Array]]

    def __call__(self, sums: Sums, aux: Any) -> tuple[Array, Groups]:
        loss, slope = self.phi(sums.label - sums.others, aux)
        return loss, Groups(slope, -slope)


def prepare(
    hidden: Array,
    head: Head | Array,
    labels: Array,
    weights: Array,
    sharding: HeadSharding | None,
    precision: Any,
    make_work: Any,
) -> tuple[How, Arrays]:
    """What every entry does with its arguments."""
    if precision == "auto":
        precision = head_precision(hidden)
    form, own = split_head(hidden, head)
    labels = labels.astype(jnp.int32)
    valid = (labels >= 0) & (labels < form.vocab_size)
    weights = jax.lax.stop_gradient(jnp.where(valid, weights.astype(jnp.float32), 0.0))
    labels = jnp.where(weights != 0.0, labels, IGNORE)
    return How(form, make_work, precision, sharding=sharding), Arrays(own, labels, weights)


def label_task(extras: tuple[str, ...]) -> LabelTask:
    """What to find with one head.

    Raises:
      ValueError: an unknown extra.

    """
    unknown = [name for name in extras if name not in EXTRAS]
    if unknown:
        raise ValueError(f"unknown extra {unknown[0]!r}; known: {', '.join(EXTRAS)}")
    return LabelTask(extras)


def stats_of(groups: Groups, sums: Sums, arrays: Arrays, vocab_size: int) -> HeadStats:
    """What was found as numbers of each token; groups carry gradients, sums do not."""
    counts = arrays.weights != 0.0
    found: dict[str, Any] = {}
    others, alone, top = groups.rest, sums.label[..., None], sums.top
    if groups.picks is not None and sums.picks is not None:
        others = jnp.logaddexp(others, jax.nn.logsumexp(groups.picks, axis=-1))
        alone = jnp.concatenate([alone, sums.picks], axis=-1)
        top = jnp.maximum(top, jnp.max(sums.picks, axis=-1))
    log_odds = jnp.where(counts, groups.label - others, 0.0)
    logsumexp = jnp.where(counts, jnp.logaddexp(groups.label, others), 0.0)
    if groups.picks is not None:
        logprobs = groups.picks - logsumexp[..., None]
        found["pick_logprobs"] = jnp.where(counts[..., None], logprobs, 0.0)
        found["tail_logprob"] = jnp.where(counts, groups.rest - logsumexp, 0.0)
    logsumexp = jax.lax.stop_gradient(logsumexp)
    if sums.top_index is not None:
        index = sums.top_index
        if sums.picks is not None and arrays.picks is not None:
            index = jnp.where(sums.top == top, index, FAR)
            first = jnp.where(sums.picks == top[..., None], arrays.picks, FAR)
            index = jnp.minimum(index, jnp.min(first, axis=-1))
        first = (sums.label == top) & (arrays.labels < index)
        found["hit"] = counts & ((sums.label > top) | first)
    if sums.logit_sum is not None:
        found["logit_mean"] = sums.logit_sum / vocab_size
    if sums.first is not None and sums.second is not None:
        mean, variance = _moments(sums, logsumexp, alone - logsumexp[..., None])
        found["logprob_mean"] = jnp.where(counts, mean, 0.0)
        found["logprob_var"] = jnp.where(counts, variance, 0.0)
    return HeadStats(
        log_odds=log_odds, label_logit=sums.label, logsumexp=logsumexp, top_other=top, **found
    )


def _moments(
    sums: Sums, logsumexp: Float[Array, "*T"], alone: Float[Array, "*T k"]
) -> tuple[Float[Array, "*T"], Float[Array, "*T"]]:
    """Mean and variance of log p: of those in the sums, and of those that stand alone.

    In the sums log p_j = (z_j - top) + (top - logsumexp). The variance is taken about the mean: a
    difference of two large squares would lose its digits.
    """
    assert sums.first is not None and sums.second is not None
    shift = jnp.where(sums.total > 0, sums.top - logsumexp, 0.0)
    share, own = jnp.exp(shift), jnp.exp(alone)
    alone = jnp.where(own > 0, alone, 0.0)
    mean = share * (sums.first + shift * sums.total) + jnp.sum(own * alone, axis=-1)
    off = shift - mean
    spread = sums.second + 2.0 * off * sums.first + jnp.square(off) * sums.total
    return mean, share * spread + jnp.sum(own * jnp.square(alone - mean[..., None]), axis=-1)
