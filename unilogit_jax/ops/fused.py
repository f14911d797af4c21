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

from unilogit_jax.ops.blocks import LocalHead, make_plan
from unilogit_jax.ops.chunks import (
    Combine,
    Need,
    Rows,
    Work,
    find,
    find_grads,
    find_loss_and_grads,
    of_live,
)
from unilogit_jax.ops.spread import (
    HeadSharding,
    combine,
    combine_grads,
    first_column,
    sum_rows,
    whole_width,
)
from unilogit_jax.ops.sweeps import Grads
from unilogit_jax.types import Head

Phi = Callable[[Any, Any], tuple[Array, Any]]
"""(found, aux) -> (loss, slopes with respect to the parts of what was found), token by token."""

_ARRAYS, _TOKENS, _GRADS, _WHOLE = "arrays", "tokens", "grads", "whole"
"""Kinds of arguments and results, by how they lie on a mesh."""


class Form(NamedTuple):
    """What is known of a head when a call is compiled."""

    vocab_size: int
    transposed: bool
    softcap: float | None


class How(NamedTuple):
    """Everything about a call that is known when it is compiled."""

    form: Form
    make_work: Callable[[LocalHead, LocalHead | None, Combine], Work]
    """From the columns of this device; hashable."""
    precision: Any
    ref_form: Form | None = None
    sharding: HeadSharding | None = None
    budget: int | None = None
    keep: bool | None = None
    whole_rows: bool = False


class Side(NamedTuple):
    """Hidden states and the head they go into."""

    hidden: Float[Array, "*T D"]
    kernel: Float[Array, "rows cols"]
    bias: Float[Array, " V"] | None


class Arrays(NamedTuple):
    """The arrays of a call; the tokens' leading axes are those of the caller."""

    own: Side
    labels: Int[Array, "*T"]
    weights: Float[Array, "*T"]
    ref: Side | None = None
    picks: Int[Array, "*T k"] | None = None
    logit_tau: Float[Array, "*T"] | None = None


def split_head(hidden: Array, head: Head | Array) -> tuple[Form, Side]:
    """A head, or a bare kernel [V D], as what is known when a call is compiled, and its arrays."""
    head = head if isinstance(head, Head) else Head(kernel=head)
    form = Form(head.vocab_size, head.layout == "dv", head.softcap)
    return form, Side(hidden, head.kernel, head.bias)


@jax.tree_util.register_static
@dataclass(frozen=True)
class _Wanted:
    """Which gradients the backward pass has to make; part of a tree's structure."""

    need: Need


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def parts_of(how: How, arrays: Arrays) -> tuple[Any, Any]:
    """The parts, which can be differentiated, and all that was found, which cannot.

    The logits are never kept: they are computed once more for the gradients.
    """
    return _parts(how, arrays)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def loss_of(how: How, phi: Phi, arrays: Arrays, aux: Any) -> tuple[Float[Array, ""], Any]:
    """Sum weight phi(found, aux), which can be differentiated, and all that was found."""
    return _loss_and_grads(how, phi, arrays, aux, Need(False, False, False))[:2]


def _parts(how: How, arrays: Arrays) -> tuple[Any, Any]:
    def run(arrays: Arrays) -> tuple[Any, Any]:
        work, rows, plan = _local(how, arrays)
        found = find(work, rows, arrays.weights.ravel() != 0.0, plan)
        return _shaped((work.parts(found), found), arrays)

    return _spread(how, arrays, run, (_ARRAYS,), _TOKENS)(arrays)


def _loss_and_grads(how: How, phi: Phi, arrays: Arrays, aux: Any, need: Need) -> Any:
    def run(arrays: Arrays, aux: Any) -> Any:
        work, rows, plan = _local(how, arrays)
        weights, flat = arrays.weights.ravel(), _flat(aux, arrays)
        row = arrays.labels.shape[-1] if how.whole_rows else None
        total, found, grads = find_loss_and_grads(work, rows, weights, flat, phi, plan, need, row)
        return sum_rows(total, how.sharding), _shaped(found, arrays), _finish(how, arrays, grads)

    kinds = (_WHOLE, _TOKENS, _GRADS)
    return _spread(how, arrays, run, (_ARRAYS, _TOKENS), kinds)(arrays, aux)


def _parts_forward(how: How, arrays: Any) -> Any:
    arrays, wanted = _unwrap(arrays)
    parts, found = _parts(how, arrays)
    return (parts, found), (arrays, parts, found, wanted)


def _parts_backward(how: How, residuals: Any, cotangents: Any) -> Any:
    arrays, parts, found, wanted = residuals
    slopes = jax.tree.leaves(cotangents[0], is_leaf=_is_zero)
    if all(map(_is_zero, slopes)):
        return (_zeros(arrays),)
    flat, structure = jax.tree.flatten(parts)
    slopes = [jnp.zeros_like(x) if _is_zero(s) else s for s, x in zip(slopes, flat, strict=True)]

    def run(arrays: Arrays, found: Any, slopes: Any) -> Grads:
        work, rows, plan = _local(how, arrays)
        found, slopes, counts = _flat((found, slopes, arrays.weights != 0.0), arrays)
        slopes = jax.tree.map(partial(of_live, counts), slopes)
        grads = find_grads(work, rows, found, slopes, plan, wanted.need)
        return _finish(how, arrays, grads)

    run = _spread(how, arrays, run, (_ARRAYS, _TOKENS, _TOKENS), _GRADS)
    grads = run(arrays, found, structure.unflatten(slopes))
    return (_cotangent(arrays, grads, None),)


def _loss_forward(how: How, phi: Phi, arrays: Any, aux: Any) -> Any:
    arrays, wanted = _unwrap(arrays)
    aux = jax.tree.map(lambda x: x.value, aux, is_leaf=_is_primal)
    total, found, grads = _loss_and_grads(how, phi, arrays, aux, wanted.need)
    return (total, found), (arrays, grads, aux)


def _loss_backward(how: How, phi: Phi, residuals: Any, cotangents: Any) -> Any:
    arrays, grads, aux = residuals
    scale = cotangents[0]
    if _is_zero(scale):
        return _zeros(arrays), _zeros(aux)
    return _cotangent(arrays, grads, scale), _zeros(aux)


parts_of.defvjp(_parts_forward, _parts_backward, symbolic_zeros=True)
loss_of.defvjp(_loss_forward, _loss_backward, symbolic_zeros=True)


def _local(how: How, arrays: Arrays) -> tuple[Work, Rows, Any]:
    """The work on this device's columns, its tokens in one row, and the plan."""
    head = _local_head(how, how.form, arrays.own)
    ref = None
    if arrays.ref is not None and how.ref_form is not None:
        ref = _local_head(how, how.ref_form, arrays.ref)
    work = how.make_work(head, ref, partial(combine, how=how.sharding))
    ref_hidden = None if arrays.ref is None else arrays.ref.hidden
    rows = Rows(arrays.own.hidden, arrays.labels, arrays.picks, ref_hidden, arrays.logit_tau)
    options = {} if how.budget is None else {"budget": how.budget}
    heads = 1 if ref is None else 2
    plan = make_plan(arrays.labels.size, head.columns, heads=heads, keep=how.keep, **options)
    return work, _flat(rows, arrays), plan


def _local_head(how: How, form: Form, side: Side) -> LocalHead:
    """A head's columns on this device, with all of their width."""
    kernel, transposed = side.kernel, form.transposed
    return LocalHead(
        kernel=whole_width(kernel, how.sharding, transposed=transposed, dtype=side.hidden.dtype),
        bias=side.bias,
        first=first_column(kernel, how.sharding, transposed=transposed),
        vocab_size=form.vocab_size,
        transposed=transposed,
        softcap=form.softcap,
        precision=how.precision,
    )


def _spread(how: How, arrays: Arrays, run: Callable, inputs: tuple, outputs: Any) -> Callable:
    """The function on every device's part, or as it is where there is no mesh."""
    if how.sharding is None:
        return run
    # Specs are prefixes: one stands for every array below it, None has no arrays.
    rows, vocab = how.sharding.token_spec, PartitionSpec(how.sharding.vocab)

    def side(form: Form) -> tuple:
        assert how.sharding is not None
        return rows, how.sharding.kernel_spec(transposed=form.transposed), vocab

    ref = None if how.ref_form is None or arrays.ref is None else Side._make(side(how.ref_form))
    specs: dict[str, Any] = {
        _ARRAYS: Arrays._make((Side._make(side(how.form)), rows, rows, ref, rows, rows)),
        _TOKENS: rows,
        _GRADS: Grads._make(side(how.form)),
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


def _flat(tree: Any, arrays: Arrays) -> Any:
    """All tokens in one row."""
    axes = arrays.labels.ndim
    return jax.tree.map(lambda x: x.reshape(arrays.labels.size, *x.shape[axes:]), tree)


def _shaped(tree: Any, arrays: Arrays) -> Any:
    """Tokens in the shape that the caller gave them."""
    return jax.tree.map(lambda x: x.reshape(arrays.labels.shape + x.shape[1:]), tree)


def _finish(how: How, arrays: Arrays, grads: Grads) -> Grads:
    """Gradients over all devices, in the shapes of what they belong to."""
    grads = combine_grads(grads, how.sharding, transposed=how.form.transposed)
    return grads._replace(hidden=_shaped(grads.hidden, arrays))


def _unwrap(arrays: Any) -> tuple[Arrays, _Wanted]:
    """Values, and which of them are differentiated, of what `symbolic_zeros` hands in."""
    values = jax.tree.map(lambda x: x.value, arrays, is_leaf=_is_primal)
    needed = jax.tree.map(lambda x: x.perturbed, arrays, is_leaf=_is_primal)
    own = needed.own
    return values, _Wanted(Need(own.hidden, own.kernel, bool(own.bias)))


def _is_primal(x: Any) -> bool:
    return isinstance(x, CustomVJPPrimal)


def _is_zero(x: Any) -> bool:
    return isinstance(x, SymbolicZero)


def _cotangent(arrays: Arrays, grads: Grads, scale: Array | None) -> Arrays:
    """Gradients in the dtypes of the arrays, times the cotangent of the loss; zeros elsewhere."""

    def one(x: Array | None, grad: Array | None) -> Array | None:
        if x is None or grad is None:
            return None if x is None else _zero(x)
        return (grad if scale is None else scale * grad).astype(x.dtype)

    own = Side._make(one(x, grad) for x, grad in zip(arrays.own, grads, strict=True))
    return _zeros(arrays)._replace(own=own)


def _zeros(tree: Any) -> Any:
    return jax.tree.map(_zero, tree)


def _zero(x: Array) -> Any:
    if jnp.issubdtype(x.dtype, jnp.floating):
        return jnp.zeros_like(x)
    return np.zeros(x.shape, jax.dtypes.float0)
