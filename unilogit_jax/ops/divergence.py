# SPDX-License-Identifier: Apache-2.0
"""Divergences of a model from a teacher, without the logits of either."""

from dataclasses import dataclass
from typing import Any, cast, no_type_check

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from unilogit_jax.ops.fused import Arrays, Form, How, Phi, Side, loss_of, parts_of, split_head
from unilogit_jax.ops.head import prepare
from unilogit_jax.ops.labels import LabelTask
from unilogit_jax.ops.pairs import Found, PairTask
from unilogit_jax.ops.slopes import with_slopes
from unilogit_jax.ops.spread import HeadSharding
from unilogit_jax.ops.stored import OnStored, TopK
from unilogit_jax.ops.targets import Divergence, Pair, loss_and_slopes
from unilogit_jax.types import Head


# Unchecked at run time: JAX rebuilds the records around shapes and shardings too.
@no_type_check
@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A model that stays as it is: its last hidden states, cached or not, and its head."""

    hidden: Float[Array, "*T E"]
    head: Head | Float[Array, "V E"]


@no_type_check
@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class DivergenceStats:
    """What a teacher comparison says of each token, float32; 0 at positions that do not count."""

    values: Float[Array, "*T"]
    log_odds: Float[Array, "*T"]
    """Of the label under the model; no gradient."""
    ref_log_odds: Float[Array, "*T"]
    """Of the label under the teacher, before its label was changed."""


def chunked_divergence(
    hidden: Float[Array, "*T D"],
    head: Head | Float[Array, "V D"],
    teacher: Teacher | TopK | None,
    labels: Int[Array, "*T"] | None,
    weights: Float[Array, "*T"],
    divergence: Divergence,
    *,
    logit_tau: Float[Array, "*T"] | None = None,
    sharding: HeadSharding | None = None,
    precision: Any = "auto",
) -> DivergenceStats:
    """The divergence of each token's distribution from its target; the gradient may come later.

    D(p, t),    p = softmax(head(hidden)),    t the teacher's with its label lowered or set

    Logits of both are computed block by block and never kept. Labels are left out of every sum
    while summing, and their gradients are never differences.

    Args:
      hidden: the model's last hidden states.
      head: a `Head`, or a bare kernel [V D].
      teacher: a `Teacher`, what is stored of one, or None for the uniform distribution. No gradient
        flows to it.
      labels: index of the token to predict; positions outside 0..V-1 do not count. None, where the
        target is the teacher itself: all positions of nonzero weight count.
      weights: positions of weight 0 do not count: no gradient, even if they hold NaN. Other
        weights do not change the result.
      divergence: which one, and what becomes of the teacher's label.
      logit_tau: log-odds of the target's label probability, one per token, in place of what
        `divergence` says of it.
      sharding: as in `label_log_odds`; a teacher's head lies on the same axes.
      precision: as in `label_log_odds`.

    Returns:
      `DivergenceStats`; `values` has a gradient.

    Raises:
      ValueError: teacher and model have different vocabularies, or labels are needed.

    Example:
      >>> hidden, kernel = jnp.ones((1, 3)), jnp.ones((4, 3))
      >>> stats = chunked_divergence(
      ...     hidden, kernel, None, jnp.array([2]), jnp.ones(1), Divergence(direction="reverse")
      ... )
      >>> print(f"{stats.values[0]:.4f}")  # all logits are equal
      0.0000

    """
    how, phi, arrays, aux = _setup(
        hidden, head, teacher, labels, weights, divergence, logit_tau, sharding, precision
    )
    parts, found = cast(tuple[Any, Any], parts_of(how, arrays))
    found = jax.lax.stop_gradient(found)
    # Slopes at positions that do not count are dropped on the way back.
    values, slopes = phi(found, aux)
    return _stats(with_slopes(parts, values, slopes), phi, found, arrays, aux)


def divergence_loss(
    hidden: Float[Array, "*T D"],
    head: Head | Float[Array, "V D"],
    teacher: Teacher | TopK | None,
    labels: Int[Array, "*T"] | None,
    weights: Float[Array, "*T"],
    divergence: Divergence,
    *,
    logit_tau: Float[Array, "*T"] | None = None,
    sharding: HeadSharding | None = None,
    precision: Any = "auto",
    budget: int | None = None,
    keep: bool | None = None,
) -> tuple[Float[Array, ""], DivergenceStats]:
    """A weighted sum of divergences, whose gradients are made at once.

    sum_t weights_t D(p_t, t_t)

    One matmul more than `head_loss` for the teacher's logits, none for a stored or uniform one.

    Args:
      hidden: the model's last hidden states.
      head: a `Head`, or a bare kernel [V D].
      teacher: as in `chunked_divergence`.
      labels: as in `chunked_divergence`.
      weights: weight of each token in the sum; they carry no gradient.
      divergence: as in `chunked_divergence`.
      logit_tau: as in `chunked_divergence`.
      sharding: as in `chunked_divergence`; the sum runs over the tokens of all devices.
      precision: as in `label_log_odds`.
      budget: as in `head_loss`, for the logits of both.
      keep: as in `head_loss`.

    Returns:
      The sum, and what was found of the tokens, which carries no gradient.

    Raises:
      ValueError: as in `chunked_divergence`.

    Example:
      >>> hidden, kernel = jnp.ones((2, 3)), jnp.ones((4, 3))
      >>> teacher = Teacher(hidden=hidden, head=kernel)
      >>> undial = Divergence(direction="cross_entropy", beta=10.0)
      >>> labels, weights = jnp.array([0, 3]), jnp.full(2, 0.5)
      >>> loss, _ = divergence_loss(hidden, kernel, teacher, labels, weights, undial)
      >>> print(f"{loss:.4f}")  # log 4
      1.3863

    """
    how, phi, arrays, aux = _setup(
        hidden, head, teacher, labels, weights, divergence, logit_tau, sharding, precision
    )
    how = how._replace(budget=budget, keep=keep)
    total, found = cast(tuple[Array, Any], loss_of(how, phi, arrays, aux))
    found = jax.lax.stop_gradient(found)
    return total, _stats(phi(found, aux)[0], phi, found, arrays, aux)


def _setup(
    hidden: Array,
    head: Head | Array,
    teacher: Teacher | TopK | None,
    labels: Array | None,
    weights: Array,
    divergence: Divergence,
    logit_tau: Array | None,
    sharding: HeadSharding | None,
    precision: Any,
) -> tuple[How, Phi, Arrays, Any]:
    if labels is None:
        if logit_tau is not None or divergence.tau is not None or divergence.beta != 0.0:
            raise ValueError("a target with its own label probability needs labels")
        # Any column will do: the whole distribution is compared.
        labels = jnp.zeros(weights.shape, jnp.int32)
    stored = isinstance(teacher, TopK)
    task = LabelTask() if stored else PairTask(divergence)
    how, arrays = prepare(hidden, head, labels, weights, sharding, precision, task)
    if stored:
        arrays = arrays._replace(picks=teacher.tokens.astype(jnp.int32))
        phi = OnStored(divergence, how.form.vocab_size)
        return how, phi, arrays, (teacher, logit_tau)
    arrays = arrays._replace(logit_tau=logit_tau)
    if teacher is not None:
        ref_form, ref = split_head(teacher.hidden, teacher.head)
        _check_same(_size(how.form, arrays.own), _size(ref_form, ref))
        how, arrays = how._replace(ref_form=ref_form), arrays._replace(ref=ref)
    return how, _OnPair(divergence), arrays, ()


def _size(form: Form, side: Side) -> tuple[int, int]:
    """Tokens of a head, and its columns, padding included."""
    return form.vocab_size, side.kernel.shape[1 if form.transposed else 0]


def _check_same(own: tuple[int, int], ref: tuple[int, int]) -> None:
    if own != ref:
        raise ValueError(
            f"model and teacher need one vocabulary: the model's head has {own[0]} tokens in "
            f"{own[1]} columns, the teacher's {ref[0]} in {ref[1]}"
        )


@dataclass(frozen=True)
class _OnPair:
    """The loss as a function of what two heads give."""

    divergence: Divergence

    def __call__(self, found: Found, aux: Any) -> tuple[Array, Pair]:
        del aux
        return loss_and_slopes(self.divergence.direction, found.pair, found.logit_tau)

    def log_odds(self, found: Found, aux: Any) -> tuple[Array, Array]:
        del aux
        return found.pair.log_odds, found.ref_log_odds


def _stats(values: Array, phi: Any, found: Any, arrays: Arrays, aux: Any) -> DivergenceStats:
    counts = arrays.weights != 0.0
    numbers = (values, *phi.log_odds(found, aux))
    values, log_odds, ref_log_odds = (jnp.where(counts, x, 0.0) for x in numbers)
    return DivergenceStats(values=values, log_odds=log_odds, ref_log_odds=ref_log_odds)
