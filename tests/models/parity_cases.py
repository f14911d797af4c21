# SPDX-License-Identifier: Apache-2.0
"""Small random models of every family, as transformers makes and writes them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

VOCABULARY = 101
LENGTH = 32
TOLERANCE = 1e-5
"""Largest difference of logits; of gradients, as a share of the largest entry."""
PACKED = 3
"""The row that holds several texts."""
TEXTS = ((0, 0, 32), (1, 0, 21), (2, 13, 32), (3, 0, 12), (3, 12, 21), (3, 21, 28))
"""Row, first column and end of each text: full, right-padded, left-padded, and three packed ones;
all other columns are padding."""


class Case(NamedTuple):
    """One configuration of a family: its name in transformers, and what differs from the usual."""

    config: str
    model: str
    fields: dict[str, Any]
    old_rope: bool = False
    """Rewrite config.json in the dialect of transformers 4.x."""
    tensor: int = 2
    """How many of eight devices divide heads, MLP and vocabulary; the others divide the width."""


class Rows(NamedTuple):
    """A batch of four rows, as our decoder takes it."""

    tokens: np.ndarray
    segments: np.ndarray
    positions: np.ndarray


SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.1,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
}
LONG = {"long_factor": [1.0 + 0.3 * i for i in range(8)], "short_factor": [1.1] * 8}


def _llama(old: bool = False, **fields: Any) -> Case:
    return Case("LlamaConfig", "LlamaForCausalLM", fields, old)


def _rope(kind: str, **fields: Any) -> Case:
    rope = {"rope_type": kind, "rope_theta": 10000.0, **fields}
    return _llama(rope_parameters=rope)


GPT = {
    "vocab_size": VOCABULARY,
    "n_positions": 128,
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 4,
    "initializer_range": 0.1,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}
CASES = {
    "llama, tied": _llama(tie_word_embeddings=True),
    "llama, untied, grouped queries, own head_dim": _llama(num_key_value_heads=2, head_dim=24),
    "llama, biases": _llama(attention_bias=True, mlp_bias=True),
    "llama, fewer key heads than devices": Case(
        "LlamaConfig",
        "LlamaForCausalLM",
        {"num_attention_heads": 8, "num_key_value_heads": 2},
        tensor=8,
    ),
    "llama3 rope, tied, one key head, 4.x dialect": _llama(
        old=True,
        tie_word_embeddings=True,
        num_key_value_heads=1,
        num_hidden_layers=3,
        rope_parameters=LLAMA3,
    ),
    "llama, linear rope": _rope("linear", factor=4.0),
    "llama, yarn": _llama(rope_parameters=YARN),
    "llama, dynamic, beyond the first length": Case(
        "LlamaConfig",
        "LlamaForCausalLM",
        {
            "max_position_embeddings": 16,
            "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0},
        },
    ),
    "mistral, window shorter than the text": Case(
        "MistralConfig", "MistralForCausalLM", {"num_key_value_heads": 2, "sliding_window": 5}
    ),
    "mistral, no window, 4.x dialect": Case(
        "MistralConfig",
        "MistralForCausalLM",
        {"num_key_value_heads": 2, "sliding_window": None, "head_dim": 24},
        True,
    ),
    "qwen2, tied": Case(
        "Qwen2Config", "Qwen2ForCausalLM", {"num_key_value_heads": 2, "tie_word_embeddings": True}
    ),
    "qwen2, last layers local": Case(
        "Qwen2Config",
        "Qwen2ForCausalLM",
        {
            "num_hidden_layers": 3,
            "num_key_value_heads": 4,
            "use_sliding_window": True,
            "sliding_window": 5,
            "max_window_layers": 1,
        },
    ),
    "qwen3": Case(
        "Qwen3Config", "Qwen3ForCausalLM", {"num_key_value_heads": 2, "head_dim": 24}, True
    ),
    "gemma": Case("GemmaConfig", "GemmaForCausalLM", {"num_key_value_heads": 1, "head_dim": 24}),
    "gemma2": Case(
        "Gemma2Config",
        "Gemma2ForCausalLM",
        {
            "num_key_value_heads": 2,
            "head_dim": 24,
            "num_hidden_layers": 5,
            "sliding_window": 5,
            "query_pre_attn_scalar": 20,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    "gemma3, remainder layers": Case(
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        {
            "num_key_value_heads": 2,
            "head_dim": 24,
            "num_hidden_layers": 8,
            "sliding_window": 5,
            "layer_types": (["sliding_attention"] * 2 + ["full_attention"]) * 2
            + ["sliding_attention"] * 2,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        },
    ),
    "phi": Case("PhiConfig", "PhiForCausalLM", {}),
    "phi3, window": Case(
        "Phi3Config",
        "Phi3ForCausalLM",
        {"num_key_value_heads": 2, "sliding_window": 5, "pad_token_id": 0},
    ),
    "phi3, longrope, short": Case(
        "Phi3Config",
        "Phi3ForCausalLM",
        {
            "original_max_position_embeddings": 64,
            "rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0, **LONG},
            "pad_token_id": 0,
        },
    ),
    "phi4, longrope, long, partial rotary, tied": Case(
        "Phi3Config",
        "Phi3ForCausalLM",
        {
            "num_key_value_heads": 2,
            "original_max_position_embeddings": 8,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.75,
                "long_factor": [1.0 + 0.3 * i for i in range(6)],
                "short_factor": [1.1] * 6,
            },
            "tie_word_embeddings": True,
            "pad_token_id": 0,
        },
    ),
    "olmo2": Case("Olmo2Config", "Olmo2ForCausalLM", {"num_key_value_heads": 2, "pad_token_id": 0}),
    "gpt2": Case("GPT2Config", "GPT2LMHeadModel", GPT),
    "gpt_neo": Case(
        "GPTNeoConfig",
        "GPTNeoForCausalLM",
        {
            "num_hidden_layers": 4,
            "window_size": 5,
            "attention_types": [[["global", "local"], 2]],
        },
    ),
    "gpt_neox": Case("GPTNeoXConfig", "GPTNeoXForCausalLM", {}),
    "gpt_neox, one after the other": Case(
        "GPTNeoXConfig",
        "GPTNeoXForCausalLM",
        {"use_parallel_residual": False, "tie_word_embeddings": True},
    ),
}


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars or advice from transformers; one thread, as more would only wait."""
    import torch
    from transformers.utils import logging

    verbosity, threads = logging.get_verbosity(), torch.get_num_threads()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    logging.enable_progress_bar()
    logging.set_verbosity(verbosity)


def make(case: Case, folder: Path) -> Any:
    """The model of transformers, written to a folder."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = {} if case.model.startswith("GPT2") else SIZES
    special = {"bos_token_id": None, "eos_token_id": None}
    config = getattr(transformers, case.config)(**(special | sizes | case.fields))
    model = getattr(transformers, case.model)(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name or "ln_" in name or name.endswith("bias"):
                weight += 0.2 * torch.randn_like(weight)
    model.save_pretrained(folder)
    if case.old_rope:
        path = folder / "config.json"
        written = json.loads(path.read_text())
        rope = written.pop("rope_parameters")
        scaling = rope if rope["rope_type"] != "default" else None
        written |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": scaling}
        path.write_text(json.dumps(written))
    return model


def rows() -> Rows:
    """Random tokens in the places of TEXTS; the padding has tokens and positions that mean nothing.

    No token is 0, whose embedding gets no gradient in torch where it is the padding's.
    """
    tokens = np.random.default_rng(1).integers(1, VOCABULARY, (PACKED + 1, LENGTH))
    segments = np.zeros_like(tokens)
    positions = np.broadcast_to(np.arange(LENGTH), tokens.shape).copy()
    for number, (row, start, stop) in enumerate(TEXTS, start=1):
        segments[row, start:stop] = number
        positions[row, start:stop] = np.arange(stop - start)
    return Rows(tokens, segments, positions)


def torch_logits(model: Any, text: tuple[int, int, int]) -> Any:
    """Logits of transformers for one text of `rows`, alone in its row but for the padding.

    Alone, because transformers chooses longrope and dynamic frequencies by the largest position of
    the whole batch; padding repeats positions of the text, so that it does not count either.
    """
    import torch

    row, start, stop = text
    left, right = (start, stop) if row == PACKED else (0, LENGTH)
    tokens = torch.tensor(rows().tokens[row, left:right])[None]
    columns = torch.arange(left, right)[None]
    output = model(
        tokens,
        attention_mask=((columns >= start) & (columns < stop)).long(),
        position_ids=(columns - start).clip(0, stop - start - 1),
    )
    return output.logits[0, start - left : stop - left]
