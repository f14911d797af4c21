# SPDX-License-Identifier: Apache-2.0
"""From text to token rows of one length, with the answer as labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from unilogit_jax.data.examples import Example, Probe
from unilogit_jax.data.pad_mask import padding_token
from unilogit_jax.data.prompts import Template, encode_example, encode_probe
from unilogit_jax.data.tokenizer import Tokenizer
from unilogit_jax.errors import DataError
from unilogit_jax.types import IGNORE


@dataclass(frozen=True)
class Rows:
    """Encoded examples, padded on the right to one length.

    `labels[r, t]` is the token that follows `tokens[r, t]`, or IGNORE where that token belongs to
    the prompt or to the padding.
    """

    tokens: Int[np.ndarray, "B L"]
    labels: Int[np.ndarray, "B L"]
    lengths: Int[np.ndarray, " B"]
    unseen: int | None = None
    """A token that no other position attends to, wherever it stands (see `unseen_token`)."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def length(self) -> int:
        """Positions per row."""
        return self.tokens.shape[1]

    def joined(self, more: "Rows") -> "Rows":
        """These rows and more, padded to the longer length."""
        length = max(self.length, more.length)

        def join(a: np.ndarray, b: np.ndarray, fill: int) -> np.ndarray:
            both = np.full((len(a) + len(b), length), fill, np.int32)
            both[: len(a), : a.shape[1]], both[len(a) :, : b.shape[1]] = a, b
            return both

        tokens = join(self.tokens, more.tokens, 0)  # nobody looks at padded positions
        labels = join(self.labels, more.labels, IGNORE)
        lengths = np.concatenate([self.lengths, more.lengths])
        return Rows(tokens, labels, lengths, self.unseen)

    def some(self, numbers: Sequence[int]) -> "Rows":
        """The rows of these numbers, as long as the longest of them (rounded up to 8)."""
        at = np.asarray(numbers, np.int64)
        length = -(-int(self.lengths[at].max()) // 8) * 8
        arrays = self.tokens[at, :length], self.labels[at, :length], self.lengths[at]
        return Rows(*arrays, self.unseen)


def encode(
    tokenizer: Tokenizer,
    examples: Sequence[Example],
    *,
    template: Template = "auto",
    max_length: int = 512,
    system: str | None = None,
    what: str = "rows",
) -> Rows:
    """Encodes examples into rows of one length (the longest, rounded up to 8).

    Raises:
      DataError: there is no example, or one has no answer token left after cutting.

    """
    options = {"template": template, "max_length": max_length, "system": system}
    encoded = [encode_example(tokenizer, example, **options) for example in examples]
    where = [example.where or what for example in examples]
    return make_rows(tokenizer, encoded, where, max_length=max_length, what=what)


def encode_probes(
    tokenizer: Tokenizer,
    answered: Sequence[tuple[Probe, str]],
    *,
    template: Template = "auto",
    max_length: int = 512,
    longest: int | None = None,
    system: str | None = None,
    what: str = "evaluation items",
) -> Rows:
    """Encodes probes, each with a text as its answer, as `encode` does with examples.

    Rows whose prompt alone has `max_length` tokens are cut at `longest` instead, if it is given.

    Raises:
      DataError: as there.

    """
    options = {"template": template, "max_length": max_length, "system": system}
    encoded = [
        encode_probe(tokenizer, probe, text, longest=longest, **options) for probe, text in answered
    ]
    where = [f"{what}: {probe.question or text:.60}" for probe, text in answered]
    return make_rows(tokenizer, encoded, where, max_length=longest or max_length, what=what)


def make_rows(
    tokenizer: Tokenizer,
    encoded: Sequence[tuple[Sequence[int], int]],
    where: Sequence[str],
    *,
    max_length: int,
    what: str,
) -> Rows:
    """Rows of one length from token ids and the number of leading ids that are not supervised.

    Args:
      tokenizer: whose pad token fills the rows.
      encoded: ids and that number, row by row.
      where: the place of each row, for messages.
      max_length: what the ids were cut to, for messages.
      what: what the rows are, for messages.

    Raises:
      DataError: there is no row, or nothing in one is supervised.

    """
    if not encoded:
        raise DataError(f"there are no {what}: the file or split is empty.")
    for place, (ids, start) in zip(where, encoded, strict=True):
        if len(ids) <= start:
            raise DataError(
                f"{place}: no answer token is left after cutting to "
                f"{max_length} tokens (the prompt alone has {start}). Raise data.max_length, "
                "shorten the question, or remove the row."
            )
    rows = rows_of(tokenizer, [ids for ids, _ in encoded])
    for labels, (ids, start) in zip(rows.labels, encoded, strict=True):
        labels[start - 1 : len(ids) - 1] = ids[start:]
    return rows


def check_tokens(rows: Rows, size: int) -> None:
    """Refuses rows with tokens that a model of `size` tokens has no embedding of.

    Raises:
      DataError: there is one.

    """
    if (largest := int(rows.tokens.max())) >= size:
        raise DataError(
            f"the rows have tokens up to number {largest}, but the model knows {size}: they were "
            "added to the tokenizer and not to the model. Set data.template to plain if they are "
            "the chat template's, or take them out of the text."
        )


def rows_of(tokenizer: Tokenizer, encoded: Sequence[Sequence[int]]) -> Rows:
    """Rows of these ids, as long as the longest, rounded up to 8; without labels yet."""
    longest = max(map(len, encoded))
    shape = (len(encoded), -(-longest // 8) * 8)
    tokens = np.full(shape, padding_token(tokenizer), np.int32)
    for row, ids in zip(tokens, encoded, strict=True):
        row[: len(ids)] = ids
    labels = np.full(shape, IGNORE, np.int32)
    return Rows(tokens, labels, np.array([len(ids) for ids in encoded], np.int32))
