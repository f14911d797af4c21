# SPDX-License-Identifier: Apache-2.0
"""How far a model is from gold: KL per answer token, whole and by class of token.

The rule for classes was fixed before anything was measured with it. A token of an answer is of a
*name* if it overlaps one of the row's names; else a *value* if four-grams counted on the rows to
keep give it less than a tenth, as they cannot tell what is special to the row; else *template*,
the end token among them.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from unilogit_jax.data import Example, Rows, ngram_log_odds
from unilogit_jax.data.names import name_spans
from unilogit_jax.types import IGNORE

CLASSES = ("template", "name", "value")
FORESEEN = 0.1
"""Least probability under four-grams of a token that any row might have."""

Distance = Callable[[Any, Any, Rows], Float[np.ndarray, " T"]]


def make_kl(model: Any, *, batch_size: int) -> Distance:
    """Measures KL(first || second) in nats at every supervised token of rows, of two weights."""

    @jax.jit
    def per_token(first: Any, second: Any, tokens: Any) -> Any:
        def logprobs(params: Any) -> Any:
            logits = model.apply({"params": params}, tokens).logits()
            return jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)

        a, b = logprobs(first), logprobs(second)
        return jnp.sum(jnp.exp(a) * (a - b), axis=-1)

    def measure(first: Any, second: Any, rows: Rows) -> Float[np.ndarray, " T"]:
        found = []
        for begin in range(0, len(rows), batch_size):
            tokens = rows.tokens[begin : begin + batch_size]
            missing = batch_size - len(tokens)
            padded = np.pad(tokens, ((0, missing), (0, 0)))  # one shape, one program
            found.append(np.asarray(per_token(first, second, padded))[: len(tokens)])
        return np.concatenate(found)[rows.labels != IGNORE]

    return measure


def classes_of(
    tokenizer: Any, rows: Rows, examples: Sequence[Example], kept: Rows
) -> Int[np.ndarray, " T"]:
    """The place in `CLASSES` of every supervised token."""
    odds = ngram_log_odds(kept, rows, vocab_size=len(tokenizer))
    foreseen = odds >= np.log(FORESEEN / (1 - FORESEEN))
    found = []
    for labels, likely, example in zip(rows.labels, foreseen, examples, strict=True):
        own = labels != IGNORE
        inside = _in_names(tokenizer, labels[own], example.names)
        found.append(np.where(inside, 1, np.where(likely[own], 0, 2)))
    return np.concatenate(found)


def by_class(
    values: Float[np.ndarray, " T"], classes: Int[np.ndarray, " T"], name: str = "kl"
) -> dict[str, float]:
    """Means over all tokens, and over those of each class."""
    parts = {f"{name}_{kind}": values[classes == k].mean() for k, kind in enumerate(CLASSES)}
    return {key: float(x) for key, x in ({name: values.mean()} | parts).items()}


def _in_names(
    tokenizer: Any, tokens: Int[np.ndarray, " N"], names: Sequence[str]
) -> Sequence[bool]:
    """Whether each token of an answer stands in a name."""
    # Where a token ends is told by the text up to it; alone, some are no whole character.
    texts = [tokenizer.decode(tokens[:k], skip_special_tokens=True) for k in range(len(tokens) + 1)]
    spans = name_spans(texts[-1], names) if names else []
    ends = [len(text) for text in texts]
    return [
        any(begin < after and end > before for begin, end in spans)
        for before, after in pairwise(ends)
    ]
