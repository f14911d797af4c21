# SPDX-License-Identifier: Apache-2.0
"""What a method needs of the frozen start model, computed once before training."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from unilogit_jax.data import Rows, assemble
from unilogit_jax.methods import Method, Needs
from unilogit_jax.ops import generic_top, label_log_odds, top_tokens
from unilogit_jax.sharding import fetch, head_sharding, put_batch
from unilogit_jax.train.kept_arrays import collect
from unilogit_jax.train.objective import ApplyFn
from unilogit_jax.train.reference_cache import Question, ReferenceCache
from unilogit_jax.types import FORGET, Batch, Head, Items, ModelOutput

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
    cache: ReferenceCache | None = None,
    reinforced: Any = None,
    progress: Items = lambda *done: None,
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
      cache: where answers are kept; None computes them and holds them in memory.
      reinforced: weights trained further on the forget rows, for a method that needs such.
      progress: told of rows that are done.

    Returns:
      The arrays that `data.unlearning_batches` takes, and the reference's head where it is needed.
      Where the method wants `logit_tau` of forget rows, the caller has to add it.

    Raises:
      ValueError: the method needs `reinforced` weights and there are none.

    """
    if method.needs.reinforced is not None and reinforced is None:
        raise ValueError(f"{type(method).__name__} needs `reinforced`: weights trained further")
    needs, ask = method.needs, _Asking(apply_fn, params, batch_size, mesh, progress)
    both = ask._replace(params=(params, reinforced))
    references: References = {}
    for which, own in rows.items():
        if names := names_of(needs, which):
            alpha = needs.reinforced if which == FORGET else None
            question = Question(own, which, names, needs.ref_top, needs.layer, alpha)
            references[which] = (ask if alpha is None else both).answer(question, cache)
    needed = needs.ref_hidden and needs.layer is None
    return references, ask.head(next(iter(rows.values()))) if needed else None


def log_odds_under(
    apply_fn: ApplyFn,
    params: Any,
    rows: Rows,
    *,
    batch_size: int,
    mesh: Mesh,
    cache: ReferenceCache | None = None,
    progress: Items = lambda *done: None,
) -> Float[np.ndarray, "B L"]:
    """The labels' log-odds under some model; 0 where there is no label.

    Args:
      apply_fn: the model.
      params: its weights.
      rows: whose labels.
      batch_size: rows per forward pass.
      mesh: where to run.
      cache: as in `reference_for`, of that model.
      progress: told of rows that are done.

    """
    name = "ref_log_odds"
    ask = _Asking(apply_fn, params, batch_size, mesh, progress)
    return ask.answer(Question(rows, FORGET, (name,)), cache)[name]


class _Asking(NamedTuple):
    """Forward passes of a model over rows."""

    apply_fn: ApplyFn
    params: Any
    """For a question with alpha those of the start model and those of a reinforced one."""
    batch_size: int
    mesh: Mesh
    progress: Items

    def answer(self, question: Question, cache: ReferenceCache | None) -> dict[str, np.ndarray]:
        """The arrays asked for: kept ones, or new ones."""
        if cache is not None:
            return cache.answer(question, self.params, lambda: self._pieces(question))
        return collect(self._pieces(question), len(question.rows), None).arrays

    def head(self, rows: Rows) -> Head:
        """The model's head. Nothing else is asked for, so the compiler leaves out the rest."""
        head = jax.jit(lambda params, batch: self.apply_fn(params, batch).head)
        return head(self.params, self._batch(rows, FORGET, 0))

    def _pieces(self, question: Question) -> Iterator[dict[str, np.ndarray]]:
        rows, which, names, top, layer, alpha = question

        @jax.jit
        def forward(params: Any, batch: Batch) -> dict[str, jax.Array]:
            if alpha is not None:
                outputs = tuple(self.apply_fn(weights, batch) for weights in params)
                found = _look_generic(outputs, batch, top, alpha)
            else:
                output = self.apply_fn(params, batch)
                found = _look(output, batch, top, self.mesh) if layer is None else {}
                found["ref_hidden"] = output.hidden
            return {name: found[name] for name in names}

        for start in range(0, len(rows), self.batch_size):
            values = forward(self.params, self._batch(rows, which, start))
            found = {name: fetch(values[name])[: len(rows) - start] for name in names}
            self.progress("rows", min(start + self.batch_size, len(rows)), len(rows))
            yield found

    def _batch(self, rows: Rows, which: int, start: int) -> Batch:
        # The last batch is filled by repeating rows, so that one compilation serves all.
        picked = np.arange(start, start + self.batch_size) % len(rows)
        sets = np.full(self.batch_size, which, np.int32)
        return put_batch(assemble([(rows, picked, {})], sets), self.mesh)


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


def _look_generic(
    outputs: tuple[ModelOutput, ...], batch: Batch, k: int, alpha: float
) -> dict[str, jax.Array]:
    """The same of the start model without what a reinforced one prefers."""
    start, reinforced = outputs
    odds, tokens, logprobs, tail = generic_top(start, reinforced, batch.labels, alpha=alpha, k=k)
    return {
        "ref_log_odds": odds,
        "ref_tokens": tokens,
        "ref_logprobs": logprobs,
        "ref_tail": tail,
        "ref_hidden": start.hidden,
    }
