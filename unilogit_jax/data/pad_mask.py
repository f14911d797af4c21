# SPDX-License-Identifier: Apache-2.0
"""Which tokens attention leaves out: padding, or whatever looks like it."""

from typing import Literal

from unilogit_jax.data.tokenizer import Tokenizer

PadMask = Literal["exact", "eos_as_pad"]


def padding_token(tokenizer: Tokenizer) -> int:
    """What fills rows: the pad token, or the end token of a tokenizer without one."""
    pad = tokenizer.pad_token_id
    return tokenizer.eos_token_id if pad is None else pad


def unseen_token(tokenizer: Tokenizer, pad_mask: PadMask) -> int | None:
    """The token that attention leaves out wherever it stands; None: every token of a text is seen.

    exact hides padding only, which is known from the lengths of rows. eos_as_pad is the mask of
    code that rebuilds it from the ids, `ids != pad_token_id`, after `pad_token = eos_token` where
    there is no pad token: end tokens within a text, which close earlier turns of a chat, are
    hidden. With a pad token of its own a tokenizer hides that one, which texts hardly ever hold.

    Reference: open-unlearning (locuslab), its loader of tokenizers and its collator.
    """
    return None if pad_mask == "exact" else padding_token(tokenizer)
