# SPDX-License-Identifier: Apache-2.0
"""Documents as token rows: joined, and cut into rows of one length."""

from collections.abc import Sequence

from unilogit_jax.data.encode import Rows, make_rows
from unilogit_jax.data.examples import Example
from unilogit_jax.data.prompts import start_ids, text_ids
from unilogit_jax.data.tokenizer import Tokenizer

BETWEEN = "\n\n"
"""Stands between two documents."""


def encode_documents(
    tokenizer: Tokenizer, documents: Sequence[Example], *, max_length: int, what: str = "rows"
) -> Rows:
    """Joins documents with a blank line and cuts them into rows of `max_length` tokens.

    Every row begins with the tokenizer's start token, if it has one, and is supervised from its
    second token on; there are no end tokens. The last row may be shorter.

    Args:
      tokenizer: applied once, to all the text.
      documents: plain texts; a question is no part of a document.
      max_length: tokens in a row, the start token included.
      what: what the rows are, for messages.

    Raises:
      DataError: there are no documents.

    """
    ids = text_ids(tokenizer, BETWEEN.join(document.answer for document in documents))
    start = start_ids(tokenizer)
    size = max(1, max_length - len(start))
    chunks = [start + ids[at : at + size] for at in range(0, len(ids), size)]
    # A single token that nothing comes before predicts nothing.
    encoded = [(chunk, 1) for chunk in chunks if len(chunk) > 1]
    return make_rows(tokenizer, encoded, [what] * len(encoded), max_length=max_length, what=what)
