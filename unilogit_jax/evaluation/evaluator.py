# SPDX-License-Identifier: Apache-2.0
"""Measures one set of weights on a task: likelihoods, generated answers, and what they say."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from jax.sharding import Mesh

from unilogit_jax import metrics
from unilogit_jax.data import (
    PadMask,
    Panel,
    Probe,
    Task,
    Tokenizer,
    encode,
    encode_probes,
    end_ids,
    probe_prompt,
    text_ids,
    unseen_token,
)
from unilogit_jax.data.encode import Template
from unilogit_jax.errors import DataError
from unilogit_jax.evaluation.answers import Answer, best_rouges, check_room, cut_answer
from unilogit_jax.evaluation.forced import Scores, make_scorer
from unilogit_jax.evaluation.grad_norms import make_gradient_norms
from unilogit_jax.evaluation.item_scores import rouge_scores, token_scores
from unilogit_jax.evaluation.items import Evaluation, Item
from unilogit_jax.evaluation.membership import sides_of
from unilogit_jax.models import apply_fn, generate
from unilogit_jax.types import IGNORE, Items

SEEN_ROWS = 256
"""About so many training rows, spread evenly, are asked for the accuracy on questions seen in
training: no fewer if there are as many, and less than twice as many."""


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
        pad_mask: PadMask = "exact",
        system: str | None = None,
        max_length: int = 512,
        max_new_tokens: int = 64,
        max_items: int | None = None,
        batch_size: int = 64,
        grad_norm: bool = False,
    ):
        self._model = model
        self._tokenizer = tokenizer
        self._max_new_tokens = max_new_tokens
        self._batch_size = batch_size
        self._system = system
        self._template: Template = template
        self._unseen = unseen_token(tokenizer, pad_mask)
        self._ends = end_ids(tokenizer, template=template, system=system)
        self._suite = task.suite
        self._attacked = sides_of(panel.name for panel in task.panels) or ()
        if grad_norm and not self._attacked:
            raise DataError(
                "eval.grad_norm compares gradients on rows to forget with those on rows that no "
                f"model has seen, and {task.name} has none of these here. Leave it false, or take "
                "TOFU with its holdout file, MUSE, or your own files with data.holdout."
            )
        self._norms = make_gradient_norms(apply_fn(model), mesh=mesh) if grad_norm else None
        self._reads_tokens = bool(task.suite or self._attacked)
        self._score = make_scorer(
            apply_fn(model), batch_size=batch_size, mesh=mesh, moments=bool(task.suite)
        )
        self._panels = {panel.name: panel for panel in task.panels}
        self.probes = tuple(map(self._cut, _first(task.probes, max_items)))
        options = {"template": template, "max_length": max_length, "system": system}
        answered = [(p, text) for p in self.probes for text in self._texts(p)]
        # A question with solved ones before it may be longer than any row of training.
        longest = max(max_length, model.config.max_length)
        rows = encode_probes(tokenizer, answered, longest=longest, **options)
        self._rows = replace(rows, unseen=self._unseen)
        counts = [len(self._texts(probe)) for probe in self.probes]
        ends = np.cumsum(counts).tolist()
        self._of_probe = [range(end - n, end) for end, n in zip(ends, counts, strict=True)]
        """Rows of the texts of each probe."""
        self._seen = None
        if task.retain and not task.documents:
            stride = max(1, len(task.retain) // min(SEEN_ROWS, max_items or SEEN_ROWS))
            seen = encode(tokenizer, task.retain[::stride], what="retain rows", **options)
            self._seen = replace(seen, unseen=self._unseen)
        self._asked = self._questions()
        for name, (_, prompts) in self._asked.items():
            check_room(prompts, self._most(self._panels[name]), model.config.max_length, where=name)

    def __call__(
        self, params: Any, *, grad_norm: bool = True, progress: Items = lambda *done: None
    ) -> Evaluation:
        """Measures the weights.

        Args:
          params: the weights.
          grad_norm: False leaves gradient norms out, where the evaluator is made to find them.
          progress: told of texts, gradients and answers that are done.

        """
        scores = self._score(params, self._rows, partial(progress, "texts"))
        norms = self._gradient_norms(params, progress) if grad_norm else {}
        seen = self._score(params, self._seen).exact.mean() if self._seen is not None else np.nan
        answers = self._answers(params, scores, progress)
        rouges = best_rouges(self.probes, answers)
        items = []
        for number, (probe, rows) in enumerate(zip(self.probes, self._of_probe, strict=True)):
            item = _item(probe, rows, scores, answers.get(number), rouges.get(number))
            if self._reads_tokens:
                more = rouge_scores(rouges.get(number))
                if rows:
                    more |= token_scores(probe, rows.start, scores, self._decode(rows.start))
                if number in norms:
                    more["mia_gradnorm"] = norms[number]
                item = replace(item, scores=more)
            items.append(item)
        return Evaluation(tuple(items), float(seen), self._suite)

    def prompts(self, questions: Sequence[str]) -> list[list[int]]:
        """Token ids of the prompts of some questions."""
        return [self._prompt(Probe(question, "", "")) for question in questions]

    def answers(
        self,
        params: Any,
        prompts: Sequence[Sequence[int]],
        *,
        panel: Panel | None = None,
        begun: Sequence[Sequence[int]] | None = None,
        **drawn: Any,
    ) -> list[Answer]:
        """Answers; a panel says how long they may be, and what ends them besides.

        They are greedy unless a `temperature` is given, and a `seed` with it, as in `generate`,
        which takes `progress` too.
        """
        outputs = generate(
            self._model,
            params,
            prompts,
            max_new_tokens=self._most(panel),
            stop_ids=self._ends,
            begun=begun,
            batch_size=self._batch_size,
            unseen=self._unseen,
            **drawn,
        )
        texts = self._tokenizer.batch_decode(outputs, skip_special_tokens=True)
        stops = () if panel is None else panel.stops
        ended = [not set(self._ends).isdisjoint(ids) for ids in outputs]
        return [cut_answer(text, stops, ended=end) for text, end in zip(texts, ended, strict=True)]

    def _most(self, panel: Panel | None) -> int:
        wanted = None if panel is None else panel.new_tokens
        return self._max_new_tokens if wanted is None else wanted

    def _prompt(self, probe: Probe) -> list[int]:
        return probe_prompt(self._tokenizer, probe, template=self._template, system=self._system)

    def _cut(self, probe: Probe) -> Probe:
        """What continues a passage is compared as far as it is generated."""
        most = self._panels[probe.group].new_tokens
        if not probe.literal or not most:
            return probe
        ids = text_ids(self._tokenizer, probe.answer)[:most]
        return replace(probe, answer=self._tokenizer.decode(ids))

    def _questions(self) -> dict[str, tuple[list[int], list[list[int]]]]:
        """Panel -> numbers and prompts of the probes that are asked."""
        asked = {}
        for name, panel in self._panels.items():
            numbers = [
                n for n, p in enumerate(self.probes) if p.group == name and p.question is not None
            ]
            if numbers and panel.new_tokens != 0:
                probes = [self.probes[n] for n in numbers]
                asked[name] = numbers, [self._prompt(probe) for probe in probes]
        return asked

    def _answers(self, params: Any, scores: Scores, progress: Items) -> dict[int, Answer]:
        """The answer to every probe that is asked, by its number."""
        found: dict[int, Answer] = {}
        every = sum(len(numbers) for numbers, _ in self._asked.values())

        def tell(done: int, total: int) -> None:
            progress("answers", len(found) + done, every)

        for name, (numbers, prompts) in self._asked.items():
            panel = self._panels[name]
            begun = [
                self._begun(number, prompt, scores)[: self._most(panel)]
                for number, prompt in zip(numbers, prompts, strict=True)
            ]
            answers = self.answers(params, prompts, panel=panel, begun=begun, progress=tell)
            found.update(zip(numbers, answers, strict=True))
            # Answers that the pass had given already were asked of nobody, and told by nobody.
            progress("answers", len(found), every)
        return found

    def _begun(self, number: int, prompt: Sequence[int], scores: Scores) -> list[int]:
        """What greedy decoding gives at first: the true answer up to the first token it misses.

        The pass has said so already; a memorised answer costs no step of generation.
        """
        if not (rows := self._of_probe[number]) or self._unseen is not None:
            return []  # where tokens are hidden, positions in an answer are not those of the pass
        row = rows.start
        tokens = self._rows.tokens[row, : self._rows.lengths[row]].tolist()
        if tokens[: len(prompt)] != list(prompt):
            return []  # the tokenizer joins the prompt's end and the answer's beginning
        missed = np.flatnonzero(~scores.hits[row])
        return tokens[len(prompt) :][: missed[0] if len(missed) else None]

    def _gradient_norms(self, params: Any, progress: Items) -> dict[int, float]:
        """Of the true answers of the panels that attacks compare, by the number of the probe."""
        if self._norms is None:
            return {}
        numbers = [n for n, probe in enumerate(self.probes) if probe.group in self._attacked]
        rows = self._rows.some([self._of_probe[n].start for n in numbers])
        norms = self._norms(params, rows, partial(progress, "gradients"))
        return dict(zip(numbers, norms.tolist(), strict=True))

    def _decode(self, row: int) -> str:
        """The supervised tokens of a scored row as text."""
        labels = self._rows.labels[row]
        return self._tokenizer.decode(labels[labels != IGNORE], skip_special_tokens=True)

    def _texts(self, probe: Probe) -> tuple[str, ...]:
        """The texts scored for one probe: the answer, its paraphrase if any, the wrong ones."""
        if not self._panels[probe.group].scored:
            return ()
        paraphrases = () if probe.paraphrase is None else (probe.paraphrase,)
        return (probe.answer, *paraphrases, *probe.wrong)


def _item(
    probe: Probe,
    rows: range,
    scores: Scores,
    answer: Answer | None,
    rouge: metrics.Rouge | None,
) -> Item:
    """What the model does with one probe, whose texts are these rows of the pass."""
    nll = [float(scores.nll[row]) for row in rows]
    tokens = [len(scores.logprobs[row]) for row in rows]
    wrong = nll[len(nll) - len(probe.wrong) :] if nll else []
    return Item(
        group=probe.group,
        question=probe.question,
        truth=probe.answer,
        answer=None if answer is None else answer.text,
        nll=nll[0] if nll else None,
        correct_nll=nll[-len(wrong) - 1] if nll else None,
        wrong_nll=tuple(wrong),
        exact=bool(nll) and bool(scores.exact[rows.start]),
        rouge_l=0.0 if rouge is None else rouge.rougeL_recall,
        malformed=answer is not None
        and metrics.is_malformed(answer.text, ended=answer.ended, pattern=probe.pattern),
        kind=probe.kind,
        name=probe.name,
        others=probe.answers,
        tokens=tokens[0] if tokens else None,
        wrong_tokens=tuple(tokens[len(tokens) - len(wrong) :]),
    )


def _first(probes: Sequence[Probe], limit: int | None) -> tuple[Probe, ...]:
    """At most `limit` probes of each group, in order."""
    if limit is None:
        return tuple(probes)
    groups: dict[str, list[Probe]] = {}
    for probe in probes:
        groups.setdefault(probe.group, []).append(probe)
    return tuple(probe for group in groups.values() for probe in group[:limit])
