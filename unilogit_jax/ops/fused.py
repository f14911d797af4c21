# SPDX-License-Identifier: Apache-2.0
"""The fused head as two differentiable functions, on one device or under shard_map."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from unilogit_jax.ops.blocks import LocalHead, Plan, make_plan
from unilogit_jax.ops.chunks import (
    Grads,
    Need,
    Phi,
    find_grads,
    find_loss_and_grads,
    find_stats,
)
from unilogit_jax.ops.spread import (
    HeadSharding,
    combine_grads,
    combine_sums,
    first_column,
    sum_rows,
    whole_width,
)
from unilogit_jax.ops.sweeps import Sums

_ARRAYS, _TOKENS, _GRADS, _WHOLE = "arrays", "tokens", "grads", "whole"
"""Kinds of arguments and results, by how they lie on a mesh."""


class How(NamedTuple):
    """Everything about a call that is known when it is compiled."""

    vocab_size: int
    transposed: bool
    softcap: float | None
    precision: Any
    extras: tuple[str, ...] = ()
    sharding: HeadSharding | None = None
    budget: int | None = None
    keep: bool | None = None


class Arrays(NamedTuple):
    """The arrays of a call; the tokens' leading axes are those of the caller."""

    hidden: Float[Array, "*T D"]
    kernel: Float[Array, "rows cols"]
    bias: Float[Array, " V"] | None
    labels: Int[Array, "*T"]
    weights: Float[Array, "*T"]


@jax.tree_util.register_static
@dataclass(frozen=True)
class _Wanted:
    """Which gradients the backward pass has to make; part of a tree's structure."""

    need: Need


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def log_odds_of(how: How, arrays: Arrays) -> tuple[Float[Array, "*T"], Sums]:
    """Log-odds, which can be differentiated, and sums, which cannot; the logits are never kept."""
    return _forward(how, arrays)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def loss_of(
    how: How, phi: Phi, arrays: Arrays, aux: Any
) -> tuple[Float[Array, ""], tuple[Float[Array, "*T"], Sums]]:
    """Sum weight phi(m), which can be differentiated, and what it was made of."""
    m, sums = _forward(how, arrays)

    def total(m: Array, weights: Array, aux: Any) -> Array:
        counts = weights != 0.0
        loss, _ = phi(jnp.where(counts, m, 0.0), aux)
        return sum_rows(jnp.sum(jnp.where(counts, weights * loss, 0.0)), how.sharding)

    sum_ = _spread(how, total, (_TOKENS, _TOKENS, _TOKENS), _WHOLE)(m, arrays.weights, aux)
    return sum_, (m, sums)


def _forward(how: How, arrays: Arrays) -> tuple[Array, Sums]:
    def run(arrays: Arrays) -> tuple[Array, Sums]:
        shape = arrays.labels.shape
        head, hidden, plan = _local(how, arrays)
        labels, counts = arrays.labels.ravel(), arrays.weights.ravel() != 0.0
        sums = find_stats(
            head,
            hidden,
            labels,
            counts,
            plan,
            extras=how.extras,
            combine=lambda sums: combine_sums(sums, how.sharding),
        )
        m = jnp.where(counts, sums.label - sums.others, 0.0)
        return m.reshape(shape), jax.tree.map(lambda x: x.reshape(shape), sums)

    return _spread(how, run, (_ARRAYS,), _TOKENS)(arrays)


def _log_odds_forward(how: How, arrays: Any) -> Any:
    arrays, wanted = _unwrap(arrays)
    m, sums = _forward(how, arrays)
    return (m, sums), (arrays, sums.others, wanted)


def _log_odds_backward(how: How, residuals: Any, cotangents: Any) -> Any:
    arrays, others, wanted = residuals
    slopes = cotangents[0]
    if isinstance(slopes, SymbolicZero):
        return (_zeros(arrays),)

    def run(arrays: Arrays, others: Array, slopes: Array) -> Grads:
        head, hidden, plan = _local(how, arrays)
        counts = arrays.weights.ravel() != 0.0
        slopes = jnp.where(counts, slopes.ravel(), 0.0)
        labels = arrays.labels.ravel()
        grads = find_grads(head, hidden, labels, slopes, others.ravel(), plan, wanted.need)
        return _shaped(combine_grads(grads, how.sharding, transposed=how.transposed), arrays)

    grads = _spread(how, run, (_ARRAYS, _TOKENS, _TOKENS), _GRADS)(arrays, others, slopes)
    return (_cotangent(arrays, grads, None),)


def _loss_forward(how: How, phi: Phi, arrays: Any, aux: Any) -> Any:
    arrays, wanted = _unwrap(arrays)
    aux = jax.tree.map(lambda x: x.value, aux, is_leaf=_is_primal)

    def run(arrays: Arrays, aux: Any) -> Any:
        shape = arrays.labels.shape
        head, hidden, plan = _local(how, arrays)
        total, sums, grads = find_loss_and_grads(
            head,
            hidden,
            arrays.labels.ravel(),
            arrays.weights.ravel(),
            jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(shape) :]), aux),
            phi,
            plan,
            wanted.need,
            extras=how.extras,
            combine=lambda sums: combine_sums(sums, how.sharding),
        )
        m = jnp.where(arrays.weights.ravel() != 0.0, sums.label - sums.others, 0.0)
        found = jax.tree.map(lambda x: x.reshape(shape), (m, sums))
        grads = combine_grads(grads, how.sharding, transposed=how.transposed)
        return sum_rows(total, how.sharding), found, _shaped(grads, arrays)

    total, found, grads = _spread(how, run, (_ARRAYS, _TOKENS), (_WHOLE, _TOKENS, _GRADS))(
        arrays, aux
    )
    return (total, found), (arrays, grads, aux)


def _loss_backward(how: How, phi: Phi, residuals: Any, cotangents: Any) -> Any:
    arrays, grads, aux = residuals
    scale = cotangents[0]
    if isinstance(scale, SymbolicZero):
        return _zeros(arrays), jax.tree.map(_zero, aux)
    return _cotangent(arrays, grads, scale), jax.tree.map(_zero, aux)


log_odds_of.defvjp(_log_odds_forward, _log_odds_backward, symbolic_zeros=True)
loss_of.defvjp(_loss_forward, _loss_backward, symbolic_zeros=True)


def _local(how: How, arrays: Arrays) -> tuple[LocalHead, Float[Array, "N D"], Plan]:
    """This device's columns with all of their width, its tokens in one row, and the plan."""
    hidden = arrays.hidden.reshape(-1, arrays.hidden.shape[-1])
    kernel = whole_width(arrays.kernel, how.sharding, transposed=how.transposed, dtype=hidden.dtype)
    head = LocalHead(
        kernel=kernel,
        bias=arrays.bias,
        first=first_column(arrays.kernel, how.sharding, transposed=how.transposed),
        vocab_size=how.vocab_size,
        transposed=how.transposed,
        softcap=how.softcap,
        precision=how.precision,
    )
    options = {} if how.budget is None else {"budget": how.budget}
    return head, hidden, make_plan(len(hidden), head.columns, keep=how.keep, **options)


def _spread(how: How, run: Callable, inputs: tuple[str, ...], outputs: Any) -> Callable:
    """The function on every device's part, or as it is where there is no mesh."""
    if how.sharding is None:
        return run
    # Specs are prefixes: one stands for every array below it, None has no arrays.
    rows, kernel = how.sharding.token_spec, how.sharding.kernel_spec(transposed=how.transposed)
    vocab = PartitionSpec(how.sharding.vocab)
    specs: dict[str, Any] = {
        _ARRAYS: Arrays._make((rows, kernel, vocab, rows, rows)),
        _TOKENS: rows,
        _GRADS: Grads._make((rows, kernel, vocab)),
        _WHOLE: PartitionSpec(),
    }
    several = isinstance(outputs, tuple)
    return jax.shard_map(
        run,
        mesh=how.sharding.mesh,
        in_specs=tuple(specs[kind] for kind in inputs),
        out_specs=tuple(specs[kind] for kind in outputs) if several else specs[outputs],
        check_vma=False,
    )


def _shaped(grads: Grads, arrays: Arrays) -> Grads:
    """Gradients in the shapes of what they belong to."""
    hidden = grads.hidden
    return grads._replace(hidden=None if hidden is None else hidden.reshape(arrays.hidden.shape))


def _unwrap(arrays: Any) -> tuple[Arrays, _Wanted]:
    """Values, and which of them are differentiated, of what `symbolic_zeros` hands in."""
    values = jax.tree.map(lambda x: x.value, arrays, is_leaf=_is_primal)
    needed = jax.tree.map(lambda x: x.perturbed, arrays, is_leaf=_is_primal)
    return values, _Wanted(Need(needed.hidden, needed.kernel, bool(needed.bias)))


def _is_primal(x: Any) -> bool:
    return isinstance(x, CustomVJPPrimal)


def _cotangent(arrays: Arrays, grads: Grads, scale: Array | None) -> Arrays:
    """Gradients in the dtypes of the arrays, times the cotangent of the loss; zeros elsewhere."""

    def one(x: Array | None, grad: Array | None) -> Array | None:
        if x is None or grad is None:
            return None if x is None else _zero(x)
        return (grad if scale is None else scale * grad).astype(x.dtype)

    made = [one(x, grad) for x, grad in zip(arrays[:3], grads, strict=True)]
    return Arrays._make((*made, _zero(arrays.labels), _zero(arrays.weights)))


def _zeros(arrays: Arrays) -> Arrays:
    return jax.tree.map(_zero, arrays)


def _zero(x: Array) -> Any:
    if jnp.issubdtype(x.dtype, jnp.floating):
        return jnp.zeros_like(x)
    return np.zeros(x.shape, jax.dtypes.float0)
