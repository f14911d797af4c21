# SPDX-License-Identifier: Apache-2.0
"""How much of an answer a model would write by itself, from the arg-max hits of its tokens."""

from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool

from unilogit_jax.errors import check_choice

Variant = Literal["exact", "open_unlearning"]


def exact_memorization(hits: Bool[np.ndarray, " T"], *, end_token: bool = True) -> float:
    """Share of an answer's tokens that are the likeliest, given the answer so far.

    (1/T) sum_t [argmax_t = y_t]

    Args:
      hits: whether the label is the arg-max, token by token.
      end_token: the last label is the end token, which does not count.

    Returns:
      A value in [0, 1], lower is better on forgotten answers; NaN if no token is left.

    Example:
      >>> exact_memorization(np.array([True, False, True, True, True]))
      0.75

    Reference: Tirumala et al. 2022, arXiv:2205.10770, "exact memorization".
    Note: open-unlearning leaves the last token out of texts without an end token too; call it with
      `end_token=True` for its numbers.
    """
    hits = hits[: len(hits) - end_token]
    return float(np.mean(hits)) if len(hits) else float("nan")


def extraction_strength(
    hits: Bool[np.ndarray, " T"], *, end_token: bool = True, variant: Variant = "exact"
) -> float:
    """How little of an answer has to be given for the model to complete the rest.

    1 - k/T, with k the least number of given tokens after which all others are hits

    Args:
      hits: whether the label is the arg-max, token by token.
      end_token: the last label is the end token, which does not count.
      variant: "open_unlearning" never looks past the last token, so that an answer that is missed
        altogether has 1/T instead of 0: most of the small values in its tables are that.

    Returns:
      A value in [0, 1], lower is better on forgotten answers. Without a token: NaN, and 0 for
      open_unlearning.

    Raises:
      ValueError: an unknown variant.

    Example:
      >>> hits = np.array([True, False, True, True, False])
      >>> extraction_strength(hits), extraction_strength(~hits)
      (0.5, 0.0)

    Reference: Carlini et al. 2021, arXiv:2012.07805; Wang et al. 2025, arXiv:2502.19301.
    """
    check_choice("variant", variant, get_args(Variant))
    hits = hits[: len(hits) - end_token]
    total = len(hits)
    if not total:
        return float("nan") if variant == "exact" else 0.0
    misses = np.flatnonzero(~np.asarray(hits, bool))
    given = int(misses[-1]) + 1 if len(misses) else 0
    if variant == "open_unlearning":
        given = min(given, total - 1)
    return 1.0 - given / total
