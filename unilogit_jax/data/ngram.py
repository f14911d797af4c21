# SPDX-License-Identifier: Apache-2.0
"""How likely a token is after the few before it, counted on rows of tokens; no model is asked."""

import numpy as np
from jaxtyping import Float, Int

from unilogit_jax.data.encode import Rows


def ngram_log_odds(
    counted: Rows, asked: Rows, *, vocab_size: int, order: int = 4
) -> Float[np.ndarray, "B L"]:
    """Log-odds of every label of some rows, by Witten-Bell counts of other rows.

    P(w | h) = (c(hw) + T(h) P(w | h')) / (c(h) + T(h)),    P(w | nothing known) = 1/V

    c counts, T(h) is the number of different tokens seen after h, and h' is h without its oldest
    token. A history never reaches beyond the beginning of its row.

    Args:
      counted: the rows to count; prompts and answers alike.
      asked: the rows whose labels are looked up, each after the tokens of its own row.
      vocab_size: V.
      order: length of a history, plus one.

    Returns:
      log(P / (1 - P)) of each label, float32; 0 where there is none.

    Raises:
      ValueError: if `vocab_size` < 2 or `order` < 1.

    Example:
      >>> ids = np.array([[1, 2, 1, 2]], np.int32)
      >>> rows = Rows(ids, np.array([[2, 1, 2, -100]], np.int32), np.array([4], np.int32))
      >>> odds = ngram_log_odds(rows, rows, vocab_size=4, order=2)
      >>> print(" ".join(f"{1 / (1 + np.exp(-x)):.3f}" for x in odds[0, :3]))  # 2 always follows 1
      0.806 0.708 0.806

    Reference: Witten and Bell 1991, "The zero-frequency problem".
    """
    if vocab_size < 2 or order < 1:
        raise ValueError(f"vocab_size={vocab_size} has to be at least 2 and order={order} 1")
    column = np.arange(counted.length)[None, :]
    known = np.argwhere(column < counted.lengths[:, None])
    wanted = np.argwhere(asked.labels >= 0)
    # What was seen comes first, what is asked behind it: numbers of histories are made for both.
    tokens = np.concatenate([counted.tokens[tuple(known.T)], asked.labels[tuple(wanted.T)]])
    seen = len(known)
    histories = np.zeros(len(tokens), np.int64)
    there = np.ones(len(tokens), bool)
    p = np.full(len(wanted), 1.0 / vocab_size)
    for back in range(order):
        if back:
            # A label follows the token of its own position, a counted token the one before it.
            older = [_older(counted, known, back), _older(asked, wanted, back - 1)]
            token = np.concatenate(older)
            there &= token >= 0
            histories = _numbers(histories * vocab_size + np.where(there, token, 0))
        p = _interpolate(p, histories, tokens, there, seen, vocab_size)
    values = np.zeros(asked.labels.shape, np.float32)
    values[tuple(wanted.T)] = np.log(p) - np.log1p(-p)
    return values


def _older(rows: Rows, places: Int[np.ndarray, "N 2"], back: int) -> Int[np.ndarray, " N"]:
    """The token so many positions back, -1 before the beginning of the row."""
    column = places[:, 1] - back
    return np.where(column >= 0, rows.tokens[places[:, 0], np.maximum(column, 0)], -1)


def _numbers(keys: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """Small numbers for keys, the same for the same."""
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)


def _interpolate(
    shorter: Float[np.ndarray, " M"],
    histories: Int[np.ndarray, " N"],
    tokens: Int[np.ndarray, " N"],
    there: np.ndarray,
    seen: int,
    vocab_size: int,
) -> Float[np.ndarray, " M"]:
    """P(w | h) from P(w | h') of the labels that are asked, behind the `seen` tokens."""
    pairs = _numbers(histories * vocab_size + tokens)
    counts = there[:seen].astype(np.float64)
    followed = np.bincount(pairs[:seen], counts, pairs.max(initial=0) + 1)
    size = histories.max(initial=0) + 1
    total = np.bincount(histories[:seen], counts, size)
    # Each pair that was seen counts once for its history.
    first = np.unique(pairs[:seen][there[:seen]], return_index=True)[1]
    kinds = np.bincount(histories[:seen][there[:seen]][first], minlength=size)
    h, pair = histories[seen:], pairs[seen:]
    known = there[seen:] & (total[h] > 0)
    below = np.where(known, total[h] + kinds[h], 1.0)
    return np.where(known, (followed[pair] + kinds[h] * shorter) / below, shorter)
