# SPDX-License-Identifier: Apache-2.0
"""Tokenizers: loaded from a folder, or a small byte-level BPE trained on the data itself."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unilogit_jax.errors import UnilogitError, WeightsError
from unilogit_jax.urls import one_line

Tokenizer = Any
"""A `transformers.PreTrainedTokenizerBase`; Any, so that transformers is imported late."""

FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)
"""Files that make up a tokenizer in a Hugging Face folder."""

END, PAD = "<|end|>", "<|pad|>"
SAMPLE = "Question: Who wrote 12 books?\nAnswer: Ann."
"""A text that every tokenizer has to take."""


def train_tokenizer(texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
    """Trains a byte-level BPE; its end token closes every answer and its pad token fills rows.

    Args:
      texts: the text to count pairs in.
      vocab_size: largest number of tokens, special ones included.

    Returns:
      A tokenizer as transformers knows it, with at least the 256 bytes and the two special tokens.

    """
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Backend(models.BPE())
    # Digits one by one: years and numbers then share tokens instead of each being a name.
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=max(vocab_size, 256 + 2),
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END, pad_token=PAD)


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Loads the tokenizer of a local Hugging Face folder. Code from the folder is never run.

    Raises:
      WeightsError: the folder holds no tokenizer, or one that cannot be read or used.

    """
    folder = Path(folder)
    for name in (*FILES, "config.json"):
        if (folder / name).exists() and not (folder / name).is_file():
            raise WeightsError(f"{folder / name} is a folder or a device, not a file.")
    if not any(
        (folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")
    ):
        raise WeightsError(
            f"no tokenizer in {folder}: expected tokenizer.json. "
            "Copy the tokenizer's files beside the weights."
        )
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        ids = tokenizer(SAMPLE, add_special_tokens=False)["input_ids"]
        if not ids:
            raise ValueError("it makes no tokens of a text")
    except BaseException as error:
        raise WeightsError(
            f"the tokenizer in {folder} cannot be read or used ({reason_of(error)}): copy its "
            "files again from where it is from."
        ) from error
    if tokenizer.eos_token_id is None:
        raise WeightsError(
            f"the tokenizer in {folder} has no end token, so answers could not be closed. "
            "Set eos_token in its tokenizer_config.json."
        )
    return tokenizer


def reason_of(error: BaseException) -> str:
    """Why a tokenizer failed, on one short line; what is no fault of its own is raised again.

    For `except BaseException`: when the Rust code of tokenizers gives up, that is no Exception.
    """
    if isinstance(error, UnilogitError | KeyboardInterrupt | SystemExit | GeneratorExit):
        raise error
    return f"{type(error).__name__}: {one_line(error):.200}"


def check_vocabulary(tokenizer: Tokenizer, size: int, where: object) -> None:
    """Refuses a tokenizer with tokens that a model does not have.

    A model finds no row for them in its embedding, and would compute with what is no number. Added
    tokens may lie beyond, as those of images do that a model of text has no use for.

    Args:
      tokenizer: the tokenizer.
      size: number of tokens of the model.
      where: the folder, for messages.

    Raises:
      WeightsError: it is another model's, or one of its special tokens is none of the model's.

    """
    added = tokenizer.get_added_vocab()
    own = (number for token, number in tokenizer.get_vocab().items() if token not in added)
    if (largest := max(own, default=0)) >= size:
        raise WeightsError(
            f"the tokenizer in {where} has tokens up to number {largest}, the model knows {size}: "
            "is it another model's?"
        )
    for name in ("eos_token", "bos_token", "pad_token"):
        number = getattr(tokenizer, f"{name}_id")
        if number is not None and number >= size:
            raise WeightsError(
                f"the tokenizer in {where} has {name} {getattr(tokenizer, name)!r:.60} with number "
                f"{number}, but the model knows {size} tokens: set {name} in its "
                "tokenizer_config.json to one of them."
            )


def copy_tokenizer(source: str | Path, target: str | Path) -> None:
    """Copies a tokenizer's files as they are, so that an export carries exactly the original."""
    target = Path(target)
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if (Path(source) / name).exists():
            shutil.copyfile(Path(source) / name, target / name)
