# SPDX-License-Identifier: Apache-2.0
"""Examples, tokenizers, token rows with their answer masks, and the order of batches."""

from unilogit_jax.data.assemble import assemble, assemble_packed
from unilogit_jax.data.batches import (
    Batches,
    PackingWish,
    finetune_batches,
    row_order,
    unlearning_batches,
)
from unilogit_jax.data.documents import encode_documents
from unilogit_jax.data.encode import Rows, check_tokens, encode, encode_probes
from unilogit_jax.data.examples import PANELS, Example, Panel, Probe, Source, Task
from unilogit_jax.data.name_swap import SwappedRows, mean_log_odds, swap_names
from unilogit_jax.data.names import draw_names, name_spans
from unilogit_jax.data.ngram import ngram_log_odds
from unilogit_jax.data.packing import Packing, pack
from unilogit_jax.data.pad_mask import PadMask, unseen_token
from unilogit_jax.data.prompts import (
    Template,
    encode_example,
    encode_probe,
    end_ids,
    plain_prompt,
    probe_prompt,
    prompt_ids,
    text_ids,
)
from unilogit_jax.data.read import (
    as_example,
    read_examples,
    read_lines,
    read_rows,
    read_texts,
    texts_of,
)
from unilogit_jax.data.token_cache import encode_cached
from unilogit_jax.data.tokenizer import (
    Tokenizer,
    check_vocabulary,
    copy_tokenizer,
    load_tokenizer,
    train_tokenizer,
)

__all__ = [
    "PANELS",
    "Batches",
    "Example",
    "Packing",
    "PackingWish",
    "PadMask",
    "Panel",
    "Probe",
    "Rows",
    "Source",
    "SwappedRows",
    "Task",
    "Template",
    "Tokenizer",
    "as_example",
    "assemble",
    "assemble_packed",
    "check_tokens",
    "check_vocabulary",
    "copy_tokenizer",
    "draw_names",
    "encode",
    "encode_cached",
    "encode_documents",
    "encode_example",
    "encode_probe",
    "encode_probes",
    "end_ids",
    "finetune_batches",
    "load_tokenizer",
    "mean_log_odds",
    "name_spans",
    "ngram_log_odds",
    "pack",
    "plain_prompt",
    "probe_prompt",
    "prompt_ids",
    "read_examples",
    "read_lines",
    "read_rows",
    "read_texts",
    "row_order",
    "swap_names",
    "text_ids",
    "texts_of",
    "train_tokenizer",
    "unlearning_batches",
    "unseen_token",
]
