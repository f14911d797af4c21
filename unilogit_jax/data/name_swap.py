# SPDX-License-Identifier: Apache-2.0
"""Rows about somebody else: the same text with other names, and which of its tokens are which."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from unilogit_jax.data.encode import Rows, rows_of
from unilogit_jax.data.examples import Example
from unilogit_jax.data.names import Renaming, name_spans
from unilogit_jax.data.prompts import Template, probe_of, row_text
from unilogit_jax.data.tokenizer import Tokenizer
from unilogit_jax.types import IGNORE

Span = tuple[int, int]


@dataclass(frozen=True)
class SwappedRows:
    """Rows with other names, whose labels are those that have an original."""

    rows: Rows
    here: Int[np.ndarray, "N 2"]
    """Row and column of labels of the original rows, some of them several times."""
    there: Int[np.ndarray, "N 2"]
    """Row and column of the label in `rows` that corresponds to each."""
    unnamed: int
    """Original rows that hold none of their names: nothing of theirs is in `rows`."""


def swap_names(
    tokenizer: Tokenizer,
    examples: Sequence[Example],
    renamings: Sequence[Sequence[Renaming]],
    originals: Rows,
    *,
    template: Template = "auto",
    max_length: int = 512,
    system: str | None = None,
) -> SwappedRows:
    """Writes other names into rows, in question and answer alike.

    Labels correspond one to one: outside of names those of the same token at the same characters
    of the same stretch of text between two names; inside, the first to the first and so on, where
    the other name has as many tokens. All others have no counterpart. A token that holds a part
    of a name, a space before it say, counts as the name's.

    Args:
      tokenizer: one that knows the characters of its tokens.
      examples: the original rows.
      renamings: for each of them, what to call its names; each gives a row.
      originals: the examples, encoded with the same template and length.
      template: as for `encode`.
      max_length: as for `encode`.
      system: as for `encode`.

    """
    encoded: list[list[int]] = []
    pairs: list[tuple[int, int, int, int]] = []
    unnamed = 0
    for r, (example, ways) in enumerate(zip(examples, renamings, strict=True)):
        probe = probe_of(example)
        first, text = row_text(tokenizer, probe, probe.answer, template=template, system=system)
        spans = name_spans(text, example.names)
        if not spans:
            unnamed += 1
            continue
        versions = [(text, spans), *(_rewritten(text, spans, way) for way in ways)]
        end = example.question is not None
        own, *others = _tokenised(tokenizer, versions, end=end, room=max_length - len(first))
        for other in others:
            # The label of a token is at the position before it.
            at = len(first) - 1
            pairs += [(r, a + at, len(encoded), b + at) for a, b in own.matches(other)]
            encoded.append(first + other.ids)
    table = np.array(pairs, np.int64).reshape(-1, 4)
    table = table[(table[:, 1] >= 0) & (originals.labels[table[:, 0], table[:, 1]] != IGNORE)]
    rows = rows_of(tokenizer, encoded)
    here, there = table[:, :2], table[:, 2:]
    rows.labels[tuple(there.T)] = rows.tokens[there[:, 0], there[:, 1] + 1]
    return SwappedRows(rows, here, there, unnamed)


def mean_log_odds(
    swapped: SwappedRows,
    log_odds: Float[np.ndarray, "S M"],
    shape: tuple[int, int],
    *,
    mean: Literal["arithmetic", "geometric"],
    otherwise: float,
) -> tuple[Float[np.ndarray, "B L"], Int[np.ndarray, "B L"]]:
    """Log-odds of the mean probability that labels have where the names are others.

    arithmetic: p = sum_k p_k / K,    geometric: p = exp(sum_k log p_k / K)

    Args:
      swapped: which labels are which.
      log_odds: of the labels of `swapped.rows`.
      shape: of the original rows.
      mean: which of the two.
      otherwise: for labels without a counterpart.

    Returns:
      log(p / (1 - p)), float32, and K of each label.

    """
    found = log_odds[tuple(swapped.there.T)].astype(np.float64)
    log_p, log_q = -np.logaddexp(0.0, -found), -np.logaddexp(0.0, found)

    def total(values: Float[np.ndarray, " N"]) -> Float[np.ndarray, "B L"]:
        sums = np.zeros(shape)
        np.add.at(sums, tuple(swapped.here.T), values)
        return sums

    count = total(np.ones_like(found)).astype(np.int64)
    on = count > 0
    values = np.full(shape, otherwise, np.float32)
    if mean == "arithmetic":
        # Sums of p and of 1 - p: neither loses its digits at the other's end.
        values[on] = np.log(total(np.exp(log_p))[on]) - np.log(total(np.exp(log_q))[on])
    else:
        average = total(log_p)[on] / count[on]
        values[on] = average - np.log(-np.expm1(average))
    return values, count


def _rewritten(text: str, spans: Sequence[Span], way: Renaming) -> tuple[str, list[Span]]:
    """The text with other names, and where these are."""
    parts, moved, done, length = [], [], 0, 0
    for begin, end in spans:
        name = way[text[begin:end]]
        length += begin - done
        moved.append((length, length + len(name)))
        parts += [text[done:begin], name]
        length, done = length + len(name), end
    return "".join([*parts, text[done:]]), moved


@dataclass(frozen=True)
class _Tokenised:
    """Tokens of a text by where they are."""

    ids: list[int]
    places: dict[tuple[int, ...], int]
    """Stretch between names, place in it, id, how often seen before -> number of the token."""
    names: list[list[int]]
    """Tokens of each name."""

    def matches(self, other: "_Tokenised") -> list[tuple[int, int]]:
        """Pairs of tokens that correspond."""
        pairs = [(i, other.places[k]) for k, i in self.places.items() if k in other.places]
        for mine, theirs in zip(self.names, other.names, strict=True):
            pairs += zip(mine, theirs, strict=True) if len(mine) == len(theirs) else ()
        return pairs


def _tokenised(
    tokenizer: Tokenizer, versions: Sequence[tuple[str, list[Span]]], *, end: bool, room: int
) -> list[_Tokenised]:
    """Each text's first tokens, so many as there is `room` for."""
    texts = [text for text, _ in versions]
    found = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    tokenised = []
    for (text, names), ids, spans in zip(
        versions, found["input_ids"], found["offset_mapping"], strict=True
    ):
        if end and ids[-1:] != [tokenizer.eos_token_id]:
            ids, spans = [*ids, tokenizer.eos_token_id], [*spans, (len(text), len(text))]
        tokenised.append(_placed(ids[:room], spans[:room], names))
    return tokenised


def _placed(ids: list[int], spans: Sequence[Span], names: Sequence[Span]) -> _Tokenised:
    places: dict[tuple[int, ...], int] = {}
    of_names: list[list[int]] = [[] for _ in names]
    seen: Counter[tuple[int, ...]] = Counter()
    for i, (token, (begin, end)) in enumerate(zip(ids, spans, strict=True)):
        inside = next((n for n, (b, e) in enumerate(names) if begin < e and b < end), None)
        if inside is not None:
            of_names[inside].append(i)
            continue
        stretch = sum(e <= begin for _, e in names)
        origin = names[stretch - 1][1] if stretch else 0
        key = (stretch, begin - origin, end - origin, token)
        places[(*key, seen[key])] = i
        seen[key] += 1
    return _Tokenised(ids, places, of_names)
