# SPDX-License-Identifier: Apache-2.0
"""Batches of prompts: how many rows, padded to which length, told apart by which numbers."""

import math
import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jax.sharding import Mesh
from jaxtyping import UInt32

from unilogit_jax.sharding import RULES

BUCKET = 32
"""Prompts are padded to this times a power of two; the room for answers is a multiple of it."""


def row_count(wanted: int, mesh: Mesh | None) -> int:
    """The next number of rows that divides over the mesh; fewer would be repeated on devices."""
    parts = 1 if mesh is None else math.prod(mesh.shape[axis] for axis in RULES["batch"])
    return -(-wanted // parts) * parts


def numbers_of(prompts: Sequence[Sequence[int]]) -> UInt32[np.ndarray, "n 2"]:
    """What tells prompts apart in random keys: a hash of the tokens, and which of its equals."""
    seen: Counter[bytes] = Counter()
    numbers = np.zeros((len(prompts), 2), np.uint32)
    for i, prompt in enumerate(prompts):
        text = np.asarray(prompt, np.int32).tobytes()
        numbers[i] = zlib.crc32(text), seen[text]
        seen[text] += 1
    return numbers


def padded_length(longest: int) -> int:
    """32 times the least power of two that holds so many tokens, so that few lengths are compiled.

    Example:
      >>> padded_length(7), padded_length(33), padded_length(129)
      (32, 64, 256)

    """
    return BUCKET << (max(0, longest - 1) // BUCKET).bit_length()


def left_pad(
    prompts: Sequence[Sequence[int]], rows: int, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and segments (1 token, 0 padding) of a batch; missing rows are all padding."""
    longest = max(map(len, prompts))
    length = max(longest, min(padded_length(longest), most))
    tokens = np.zeros((rows, length), np.int32)
    segments = np.zeros((rows, length), np.int32)
    for row, prompt in enumerate(prompts):
        tokens[row, length - len(prompt) :] = prompt
        segments[row, length - len(prompt) :] = 1
    return tokens, segments


def until_stop(tokens: Sequence[int], stop_ids: Sequence[int]) -> list[int]:
    """The tokens up to the first stop and with it."""
    ends = [at for at, token in enumerate(tokens) if token in stop_ids]
    return list(tokens[: ends[0] + 1 if ends else None])
