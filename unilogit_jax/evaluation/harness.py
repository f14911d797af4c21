# SPDX-License-Identifier: Apache-2.0
"""Our models as lm-evaluation-harness takes them; needs the extra `lm-eval`, and no torch."""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from jax.sharding import Mesh
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from unilogit_jax.data import Rows, Tokenizer, end_ids
from unilogit_jax.evaluation.answers import before_stop
from unilogit_jax.evaluation.forced import make_scorer
from unilogit_jax.models import apply_fn, generate
from unilogit_jax.models.prompt_rows import padded_length
from unilogit_jax.types import IGNORE, Items

NEW_TOKENS = 256
"""Longest generated answer, where a task does not say."""


class HarnessModel(TemplateLM):
    """Answers the harness's three kinds of request with a model on its mesh.

    Prompts are tokenised as the harness's own class for transformers does: the tokenizer decides on
    the first token, unless the text begins with it. What is too long loses its beginning.

    Args:
      model: the decoder.
      params: its weights.
      tokenizer: its tokenizer.
      mesh: where the weights live.
      batch_size: rows per forward pass.
      progress: told of texts and answers that are done.

    """

    def __init__(
        self,
        model: Any,
        params: Any,
        tokenizer: Tokenizer,
        *,
        mesh: Mesh,
        batch_size: int,
        progress: Items = lambda *done: None,
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self._model, self._params, self._batch_size = model, params, batch_size
        self._progress = progress
        self._score = make_scorer(apply_fn(model), batch_size=batch_size, mesh=mesh)
        self._max_length: int = model.config.max_length

    @property
    def eot_token_id(self) -> int:
        """The end token."""
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that has nothing before it."""
        start = self.tokenizer.bos_token_id
        return self.eot_token_id if start is None else start

    @property
    def tokenizer_name(self) -> str:
        """Under which the harness caches requests."""
        return self.tokenizer.name_or_path.replace("/", "__")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Token ids; None leaves special tokens to the tokenizer."""
        start = self.tokenizer.bos_token
        if add_special_tokens is None and start and string.startswith(start):
            add_special_tokens = False
        special = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return self.tokenizer(string, verbose=False, **special)["input_ids"]

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as a prompt."""
        return self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )

    def loglikelihood_rolling(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """The log-likelihood of whole texts, each token with as much before it as fits."""
        windows = [self._windows(text) for (text,) in (request.args for request in requests)]
        flat = [(("", ""), *window) for own in windows for window in own]
        found = iter(self._loglikelihood_tokens(flat))
        return [sum(next(found)[0] for _ in own) for own in windows]

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answers up to the first of the texts that end them."""
        groups: dict[str, list[int]] = {}
        asked: list[Any] = [request.args for request in requests]
        for k, (_, wishes) in enumerate(asked):
            groups.setdefault(json.dumps(wishes, sort_keys=True), []).append(k)
        answers = [""] * len(requests)
        for wishes, numbers in groups.items():
            contexts = [asked[k][0] for k in numbers]
            for k, text in zip(numbers, self._said(contexts, json.loads(wishes)), strict=True):
                answers[k] = text
        return answers

    def _windows(self, text: str) -> list[tuple[list[int], list[int]]]:
        windows = get_rolling_token_windows(
            token_list=self.tok_encode(text),
            prefix_token=self.prefix_token_id,
            max_seq_len=self._max_length,
            context_len=1,
        )
        return list(map(make_disjoint_window, windows))

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        if not requests:
            return []
        rows = _rows([(a, b) for _, a, b in requests], self._max_length)
        scores = self._score(self._params, rows, partial(self._progress, "texts"))
        sums = [float(np.sum(x, dtype=np.float64)) for x in scores.logprobs]
        return [(total, bool(hit)) for total, hit in zip(sums, scores.exact, strict=True)]

    def _said(self, contexts: Sequence[str], wishes: dict[str, Any]) -> list[str]:
        most = int(wishes.get("max_gen_toks", NEW_TOKENS))
        until = wishes.get("until") or []
        stops = [until] if isinstance(until, str) else list(until)
        drawn = wishes.get("do_sample", wishes.get("temperature", 0.0) > 0)
        outputs = generate(
            self._model,
            self._params,
            [self.tok_encode(text)[-(self._max_length - most) :] for text in contexts],
            max_new_tokens=most,
            stop_ids=end_ids(self.tokenizer),
            batch_size=self._batch_size,
            temperature=float(wishes.get("temperature", 1.0)) if drawn else 0.0,
            top_k=wishes.get("top_k") if drawn else None,
            top_p=wishes.get("top_p") if drawn else None,
            progress=partial(self._progress, "answers"),
        )
        texts = self.tokenizer.batch_decode(outputs, skip_special_tokens=True)
        return [before_stop(text, stops) for text in texts]


def _rows(pairs: Sequence[tuple[list[int], list[int]]], most: int) -> Rows:
    """Contexts with what follows them, of which only that is supervised."""
    # One more than fits: the last token is only predicted.
    ids = [(before + after)[-(most + 1) :] for before, after in pairs]
    longest = max(len(row) - 1 for row in ids)
    length = min(most, padded_length(longest))
    tokens = np.zeros((len(ids), length), np.int32)
    labels = np.full((len(ids), length), IGNORE, np.int32)
    for row, (own, (_, after)) in enumerate(zip(ids, pairs, strict=True)):
        size = len(own) - 1
        tokens[row, :size] = own[:-1]
        scored = min(len(after), size)
        labels[row, size - scored : size] = own[len(own) - scored :]
    return Rows(tokens, labels, np.array([len(own) - 1 for own in ids], np.int32))
