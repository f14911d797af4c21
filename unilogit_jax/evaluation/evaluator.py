# SPDX-License-Identifier: Apache-2.0
"""Measures one set of weights on a task: likelihoods, generated answers, and what they say."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jax.sharding import Mesh

from unilogit_jax import metrics
from unilogit_jax.data import Example, Probe, Task, Tokenizer, encode, prompt_ids
from unilogit_jax.data.encode import Template
from unilogit_jax.evaluation.forced import make_scorer
from unilogit_jax.models import apply_fn, generate

SEEN_ROWS = 256
"""At most this many training rows are asked for the accuracy on questions seen in training."""


@dataclass(frozen=True)
class Item:
    """What one model does with one probe."""

    group: str
    question: str | None
    truth: str
    answer: str
    nll: float
    """Mean negative log-likelihood of the true answer's tokens."""
    correct_nll: float
    """The same of its paraphrase, where there is one; what `wrong_nll` is compared with."""
    wrong_nll: tuple[float, ...]
    exact: bool
    rouge_l: float
    malformed: bool


@dataclass(frozen=True)
class Evaluation:
    """Every item, and the accuracy on rows that training has seen."""

    items: tuple[Item, ...]
    seen_accuracy: float

    def as_dicts(self) -> list[dict[str, Any]]:
        """The items as plain data."""
        return [asdict(item) for item in self.items]


class Evaluator:
    """Encodes a task once and compiles once; then measures any weights of one model."""

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        task: Task,
        *,
        mesh: Mesh,
        template: Template = "auto",
        max_length: int = 512,
        max_new_tokens: int = 64,
        max_items: int | None = None,
        batch_size: int = 64,
    ):
        self._model = model
        self._tokenizer = tokenizer
        self._max_new_tokens = max_new_tokens
        self._batch_size = batch_size
        self._score = make_scorer(apply_fn(model), batch_size=batch_size, mesh=mesh)
        self.probes = _first(task.probes, max_items)
        candidates = [
            Example(p.question, text, "evaluation item") for p in self.probes for text in _texts(p)
        ]
        options = {"template": template, "max_length": max_length}
        self._rows = encode(tokenizer, candidates, what="evaluation items", **options)
        self._seen = None
        if task.retain:
            stride = max(1, len(task.retain) // min(SEEN_ROWS, max_items or SEEN_ROWS))
            self._seen = encode(tokenizer, task.retain[::stride], what="retain rows", **options)
        self._template: Template = template
        self._prompts = self.prompts([p.question for p in self.probes if p.question])

    def __call__(self, params: Any) -> Evaluation:
        """Measures the weights."""
        scores = self._score(params, self._rows)
        seen = self._score(params, self._seen).exact.mean() if self._seen is not None else np.nan
        answers = iter(self.answers(params, self._prompts))
        items, row = [], 0
        for probe in self.probes:
            answer, ended = next(answers) if probe.question else ("", True)
            nll = [float(x) for x in scores.nll[row : row + len(_texts(probe))]]
            first_wrong = len(nll) - len(probe.wrong)
            items.append(
                Item(
                    group=probe.group,
                    question=probe.question,
                    truth=probe.answer,
                    answer=answer,
                    nll=nll[0],
                    correct_nll=nll[first_wrong - 1],
                    wrong_nll=tuple(nll[first_wrong:]),
                    exact=bool(scores.exact[row]),
                    rouge_l=0.0,
                    malformed=probe.question is not None
                    and metrics.is_malformed(answer, ended=ended, pattern=probe.pattern),
                )
            )
            row += len(nll)
        rouges = metrics.rouge_many([i.answer for i in items], [i.truth for i in items])
        items = [
            replace(item, rouge_l=rouge.rougeL_recall)
            for item, rouge in zip(items, rouges, strict=True)
        ]
        return Evaluation(tuple(items), float(seen))

    def prompts(self, questions: Sequence[str]) -> list[list[int]]:
        """Token ids of the prompts of some questions."""
        return [prompt_ids(self._tokenizer, q, template=self._template) for q in questions]

    def answers(self, params: Any, prompts: Sequence[Sequence[int]]) -> list[tuple[str, bool]]:
        """Greedy answers, each with whether it was closed by the end token."""
        end = self._tokenizer.eos_token_id
        outputs = generate(
            self._model,
            params,
            prompts,
            max_new_tokens=self._max_new_tokens,
            stop_ids=(end,),
            batch_size=self._batch_size,
        )
        texts = self._tokenizer.batch_decode(outputs, skip_special_tokens=True)
        return [(text.strip(), end in ids) for text, ids in zip(texts, outputs, strict=True)]


def _texts(probe: Probe) -> tuple[str, ...]:
    """The texts scored for one probe: the answer, its paraphrase if any, the wrong ones."""
    paraphrases = () if probe.paraphrase is None else (probe.paraphrase,)
    return (probe.answer, *paraphrases, *probe.wrong)


def _first(probes: Sequence[Probe], limit: int | None) -> tuple[Probe, ...]:
    """At most `limit` probes of each group, in order."""
    if limit is None:
        return tuple(probes)
    groups = {g: [p for p in probes if p.group == g][:limit] for g in ("forget", "retain")}
    return tuple(groups["forget"] + groups["retain"])
