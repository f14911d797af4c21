# SPDX-License-Identifier: Apache-2.0
"""The model and the batch that `step.py` takes an update of: the same for every way to do it."""

from typing import Any

import numpy as np

V, WIDTH, LAYERS, HEADS, MLP = 32000, 384, 6, 6, 1024
ROWS, LENGTH = 4, 256
"""Forget rows, and as many retain rows, of so many tokens."""
LAYER = 1
"""RMU's, of the six: it trains the down projections of this layer and the one below."""


def token_rows() -> tuple[np.ndarray, np.ndarray]:
    """Tokens [8, 256], forget rows first, and the labels of their second halves."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, V, (2 * ROWS, LENGTH)).astype(np.int32)
    labels = np.full_like(tokens, -100)
    labels[:, LENGTH // 2 : -1] = tokens[:, LENGTH // 2 + 1 :]
    return tokens, labels


def our_config() -> Any:
    """The shape of the model, as this library names it."""
    from unilogit_jax.models import DecoderConfig

    return DecoderConfig.scratch(
        vocab_size=V,
        width=WIDTH,
        layers=LAYERS,
        heads=HEADS,
        kv_heads=HEADS,
        mlp_width=MLP,
        max_length=LENGTH,
        tie_embeddings=False,
    )


def torch_config() -> Any:
    """The same as transformers names it."""
    import transformers

    return transformers.LlamaConfig(
        vocab_size=V,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        intermediate_size=MLP,
        max_position_embeddings=LENGTH,
        tie_word_embeddings=False,
        use_cache=False,
    )
