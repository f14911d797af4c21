# SPDX-License-Identifier: Apache-2.0
"""From text to token rows: the prompt template, the answer mask, truncation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from unilogit_jax.data.examples import Example
from unilogit_jax.data.tokenizer import Tokenizer
from unilogit_jax.errors import DataError
from unilogit_jax.types import IGNORE

Template = Literal["auto", "plain", "chat"]


@dataclass(frozen=True)
class Rows:
    """Encoded examples, padded on the right to one length.

    `labels[r, t]` is the token that follows `tokens[r, t]`, or IGNORE where that token belongs to
    the prompt or to the padding.
    """

    tokens: Int[np.ndarray, "B L"]
    labels: Int[np.ndarray, "B L"]
    lengths: Int[np.ndarray, " B"]

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
        return Rows(tokens, labels, np.concatenate([self.lengths, more.lengths]))


def prompt_ids(tokenizer: Tokenizer, question: str, *, template: Template = "auto") -> list[int]:
    """Token ids of everything before the answer."""
    if _is_chat(tokenizer, template):
        turns = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return tokenizer(text, add_special_tokens=False)["input_ids"]
    return _start(tokenizer) + _ids(tokenizer, plain_prompt(question))


def plain_prompt(question: str) -> str:
    r"""The prompt of models without a chat template; a space and the answer follow it.

    Example:
      >>> plain_prompt("Who?")
      'Question: Who?\nAnswer:'

    """
    return f"Question: {question}\nAnswer:"


def encode_example(
    tokenizer: Tokenizer, example: Example, *, template: Template, max_length: int
) -> tuple[list[int], int]:
    """Token ids of one example and the number of leading ids that are not supervised.

    The whole text is tokenised at once and cut at `max_length`; the ids of the prompt alone say
    where the answer starts. The closing end token is part of the answer. Plain text is supervised
    from its second token on and gets no end token.
    """
    first, text = row_text(tokenizer, example, template=template)
    ids = first + _ids(tokenizer, text)
    if example.question is None:
        return ids[:max_length], 1
    if ids[-1] != tokenizer.eos_token_id:
        ids = [*ids, tokenizer.eos_token_id]
    return ids[:max_length], len(prompt_ids(tokenizer, example.question, template=template))


def row_text(
    tokenizer: Tokenizer, example: Example, *, template: Template
) -> tuple[list[int], str]:
    """The ids that begin a row, and the text whose ids follow them."""
    if example.question is None:
        return _start(tokenizer), example.answer
    if not _is_chat(tokenizer, template):
        return _start(tokenizer), f"{plain_prompt(example.question)} {example.answer}"
    turns = [
        {"role": "user", "content": example.question},
        {"role": "assistant", "content": example.answer},
    ]
    return [], tokenizer.apply_chat_template(turns, tokenize=False).rstrip("\n")


def encode(
    tokenizer: Tokenizer,
    examples: Sequence[Example],
    *,
    template: Template = "auto",
    max_length: int = 512,
    what: str = "rows",
) -> Rows:
    """Encodes examples into rows of one length (the longest, rounded up to 8).

    Raises:
      DataError: there is no example, or one has no answer token left after cutting.

    """
    if not examples:
        raise DataError(f"there are no {what}: the file or split is empty.")
    encoded = [
        encode_example(tokenizer, example, template=template, max_length=max_length)
        for example in examples
    ]
    for example, (ids, start) in zip(examples, encoded, strict=True):
        if len(ids) <= start:
            raise DataError(
                f"{example.where or what}: no answer token is left after cutting to "
                f"{max_length} tokens (the prompt alone has {start}). Raise data.max_length, "
                "shorten the question, or remove the row."
            )
    rows = rows_of(tokenizer, [ids for ids, _ in encoded])
    for labels, (ids, start) in zip(rows.labels, encoded, strict=True):
        labels[start - 1 : len(ids) - 1] = ids[start:]
    return rows


def rows_of(tokenizer: Tokenizer, encoded: Sequence[Sequence[int]]) -> Rows:
    """Rows of these ids, as long as the longest, rounded up to 8; without labels yet."""
    longest = max(map(len, encoded))
    shape = (len(encoded), -(-longest // 8) * 8)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    tokens = np.full(shape, pad, np.int32)
    for row, ids in zip(tokens, encoded, strict=True):
        row[: len(ids)] = ids
    labels = np.full(shape, IGNORE, np.int32)
    return Rows(tokens, labels, np.array([len(ids) for ids in encoded], np.int32))


def _is_chat(tokenizer: Tokenizer, template: Template) -> bool:
    has_template = bool(getattr(tokenizer, "chat_template", None))
    if template == "chat" and not has_template:
        raise DataError(
            "data.template is chat, but the tokenizer has no chat template. Use plain or auto."
        )
    return template != "plain" and has_template


def _start(tokenizer: Tokenizer) -> list[int]:
    return [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]
