# SPDX-License-Identifier: Apache-2.0
"""What a method needs of the frozen start model, computed once before training."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from unilogit_jax.data import Rows, assemble
from unilogit_jax.methods import Method, Needs
from unilogit_jax.ops import generic_top, label_log_odds, top_tokens
from unilogit_jax.sharding import fetch, head_sharding, put_batch
from unilogit_jax.train.objective import ApplyFn
from unilogit_jax.types import FORGET, Batch, Head, ModelOutput

References = dict[int, dict[str, Float[np.ndarray, "B ..."] | Int[np.ndarray, "B ..."]]]
"""Set -> what is known of each position of its rows, by the names of `Batch`."""


def names_of(needs: Needs, which: int) -> tuple[str, ...]:
    """The arrays that rows of a set have to have."""
    names = [name for name in ("ref_log_odds", "ref_hidden") if which in getattr(needs, name)]
    if which == FORGET and needs.ref_top:
        names += ["ref_tokens", "ref_logprobs", "ref_tail"]
    return tuple(names)


def blank_references(
    method: Method, rows: Mapping[int, Rows], *, width: int, dtype: Any
) -> References:
    """Zeros of the shapes that `reference_for` computes, for a plan.

    Args:
      method: its `needs` say which.
      rows: set -> rows.
      width: of the reference's hidden states.
      dtype: their type.

    """
    k = method.needs.ref_top
    more = {
        "ref_hidden": ((width,), dtype),
        "ref_tokens": ((k,), np.int32),
        "ref_logprobs": ((k,), np.float32),
    }

    def blank(name: str, shape: tuple[int, ...]) -> np.ndarray:
        last, kind = more.get(name, ((), np.float32))
        return np.zeros((*shape, *last), kind)

    found = {
        which: {name: blank(name, own.tokens.shape) for name in names_of(method.needs, which)}
        for which, own in rows.items()
    }
    if method.needs.tau:
        found[FORGET]["logit_tau"] = blank("logit_tau", rows[FORGET].tokens.shape)
    return found


def reference_for(
    method: Method,
    apply_fn: ApplyFn,
    params: Any,
    rows: Mapping[int, Rows],
    *,
    batch_size: int,
    mesh: Mesh,
    reinforced: Any = None,
) -> tuple[References, Head | None]:
    """Runs the reference over the rows, once.

    Args:
      method: its `needs` say what to keep of which set.
      apply_fn: the model, `(params, batch) -> ModelOutput`; for a method that acts on a layer one
        that ends there.
      params: the reference's weights.
      rows: set -> rows.
      batch_size: rows per forward pass.
      mesh: where to run.
      reinforced: weights trained further on the forget rows, for a method that needs such.

    Returns:
      The arrays that `data.unlearning_batches` takes, and the reference's head where it is needed.
      Where the method wants `logit_tau` of forget rows, the caller has to add it.

    """
    references: References = {}
    head = None
    for which, own in rows.items():
        names = names_of(method.needs, which)
        if not names:
            continue
        if which == FORGET and method.needs.reinforced is not None:
            look, weights = _generic_look(method.needs, apply_fn), (params, reinforced)
        else:
            look, weights = _plain_look(method.needs, apply_fn, mesh), params
        references[which], head = _run(names, look, weights, own, which, batch_size, mesh)
    needed = method.needs.ref_hidden and method.needs.layer is None
    return references, head if needed else None


def log_odds_under(
    apply_fn: ApplyFn, params: Any, rows: Rows, *, batch_size: int, mesh: Mesh
) -> Float[np.ndarray, "B L"]:
    """The labels' log-odds under some model; 0 where there is no label.

    Args:
      apply_fn: the model.
      params: its weights.
      rows: whose labels.
      batch_size: rows per forward pass.
      mesh: where to run.

    """
    name = "ref_log_odds"
    look = _plain_look(Needs(), apply_fn, mesh)
    values, _ = _run((name,), look, params, rows, FORGET, batch_size, mesh)
    return values[name]


Look = Callable[[Any, Batch], tuple[dict[str, jax.Array], Head]]
"""(weights, batch) -> what is known of its tokens, and the head."""


def _run(
    names: tuple[str, ...],
    look: Look,
    params: Any,
    rows: Rows,
    which: int,
    batch_size: int,
    mesh: Mesh,
) -> tuple[dict[str, np.ndarray], Head]:
    @jax.jit
    def forward(params: Any, batch: Batch) -> tuple[dict[str, jax.Array], Head]:
        found, head = look(params, batch)
        return {name: found[name] for name in names}, head

    chunks: dict[str, list[np.ndarray]] = {name: [] for name in names}
    head: Any = None
    for start in range(0, len(rows), batch_size):
        # The last chunk is filled by repeating rows, so that one compilation serves all.
        picked = np.arange(start, start + batch_size) % len(rows)
        batch = assemble([(rows, picked, {})], np.full(batch_size, which, np.int32))
        values, head = forward(params, put_batch(batch, mesh))
        for name, parts in chunks.items():
            parts.append(fetch(values[name]))
    return {name: np.concatenate(parts)[: len(rows)] for name, parts in chunks.items()}, head


def _plain_look(needs: Needs, apply_fn: ApplyFn, mesh: Mesh) -> Look:
    def look(params: Any, batch: Batch) -> tuple[dict[str, jax.Array], Head]:
        output = apply_fn(params, batch)
        found = _look(output, batch, needs.ref_top, mesh) if needs.layer is None else {}
        return found | {"ref_hidden": output.hidden}, output.head

    return look


def _generic_look(needs: Needs, apply_fn: ApplyFn) -> Look:
    """Of the start model without what a reinforced one prefers; the weights are those of both."""
    alpha, k = needs.reinforced, needs.ref_top
    assert alpha is not None

    def look(params: Any, batch: Batch) -> tuple[dict[str, jax.Array], Head]:
        base, other = (apply_fn(weights, batch) for weights in params)
        odds, tokens, logprobs, tail = generic_top(base, other, batch.labels, alpha=alpha, k=k)
        found = {"ref_log_odds": odds, "ref_tokens": tokens}
        found |= {"ref_logprobs": logprobs, "ref_tail": tail, "ref_hidden": base.hidden}
        return found, base.head

    return look


def _look(output: ModelOutput, batch: Batch, k: int, mesh: Mesh) -> dict[str, jax.Array]:
    """Log-odds of labels and, if asked, the likeliest tokens beside them."""
    sharding = head_sharding(output.head, output.hidden.shape, mesh)
    args = output.hidden, output.head, batch.labels, batch.weights
    if not k:
        return {"ref_log_odds": label_log_odds(*args, sharding=sharding).log_odds}
    tokens = top_tokens(*args, k=k, sharding=sharding)
    stats = label_log_odds(*args, picks=tokens, sharding=sharding)
    assert stats.pick_logprobs is not None and stats.tail_logprob is not None
    finite = jnp.finfo(jnp.float32).min  # a vocabulary no larger than k has no tail
    return {
        "ref_log_odds": stats.log_odds,
        "ref_tokens": tokens,
        "ref_logprobs": jnp.maximum(stats.pick_logprobs, finite),
        "ref_tail": jnp.maximum(stats.tail_logprob, finite),
    }
