# SPDX-License-Identifier: Apache-2.0
"""What the attacks on a run share: its models, its forget questions, and what measures them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from unilogit_jax import metrics
from unilogit_jax.data import Panel, Probe, Rows, Task, encode_probes, probe_prompt, unseen_token
from unilogit_jax.evaluation import MEANINGS, Evaluator, Pass, Scores, make_scorer, summarize
from unilogit_jax.evaluation.robustness import forget_probes, is_asked, question_task
from unilogit_jax.models import apply_fn
from unilogit_jax.run import Console
from unilogit_jax.types import Items
from unilogit_jax.workflows._findings import Row
from unilogit_jax.workflows._prepare import Prepared

FORGET = ("forget_probability", "forget_rouge_l", "forget_exact_match")
BOTH = (*FORGET, "retain_probability")
"""Numbers of `MEANINGS` that attacks measure."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How strong the attacks are."""

    rows: int | None = None
    """Rows to relearn from; None: a tenth of those to forget."""
    relearn_on: tuple[str, ...] = ("forget",)
    """Which rows these are: forget, retain."""
    updates: int = 20
    """Updates of relearning."""
    every: int = 2
    """Updates between two points of its curve."""
    learning_rate: float | None = None
    """Of relearning; None: that of `unlearn`."""
    samples: int = 16
    """Answers drawn per question."""
    temperature: float = 1.0
    """Of the draws."""
    seed: int = 0
    """Of the rows to relearn from, of the examples shown, and of the draws."""


Numbers = Mapping[str, Mapping[str, float]]
"""Column -> number -> value."""


@dataclass(frozen=True)
class Bench:
    """The models of a run by column, and how they are attacked."""

    prepared: Prepared
    columns: Mapping[str, Any]
    """Column -> weights."""
    options: Options
    console: Console

    @cached_property
    def forget(self) -> tuple[Probe, ...]:
        """What is measured of the rows to forget, as far as `eval.max_items` goes."""
        return self.some(forget_probes(self.prepared.task))

    @cached_property
    def asked(self) -> tuple[Probe, ...]:
        """Those of them that are questions."""
        return tuple(probe for probe in self.forget if is_asked(probe))

    @cached_property
    def score(self) -> Pass[Scores]:
        """The teacher-forced pass."""
        size = self.prepared.experiment.eval.batch_size
        return make_scorer(apply_fn(self.prepared.model), batch_size=size, mesh=self.prepared.mesh)

    @cached_property
    def task(self) -> Task:
        """What is measured of both sides; where nothing is asked of the forget rows, everything."""
        task = self.prepared.task
        return question_task(task, self.forget, retain=True) if self.forget else task

    @cached_property
    def usual(self) -> Evaluator:
        """Measures that task; compiled once for all that ask in the same words."""
        return self.evaluator(self.task)

    @cached_property
    def plain(self) -> Numbers:
        """What the models say without any attack."""
        with self.console.stage("asking as it is") as progress:
            return self.measured(self.usual, progress=progress.items)

    def some(self, items: Iterable[Any]) -> tuple[Any, ...]:
        """The first of them, `eval.max_items` at most."""
        return tuple(items)[: self.prepared.experiment.eval.max_items]

    def evaluator(self, task: Task) -> Evaluator:
        """Measures a task as the run measures its own; longer prompts make its rows longer."""
        experiment = self.prepared.experiment
        more = self._longest(filter(is_asked, task.probes)) - self._longest(self.asked)
        length = {"max_length": experiment.data.max_length + max(0, more)}
        settings = experiment.eval.model_copy(update={"grad_norm": False})
        experiment = experiment.model_copy(
            update={"eval": settings, "data": experiment.data.model_copy(update=length)}
        )
        return replace(self.prepared, task=task, experiment=experiment).evaluator

    def asking(self, probes: Sequence[Probe]) -> Evaluator:
        """Measures these questions alone."""
        return self.evaluator(question_task(self.prepared.task, probes, retain=False))

    def measured(
        self,
        evaluator: Evaluator,
        change: Callable[[Any], Any] = lambda params: params,
        *,
        progress: Items,
    ) -> Numbers:
        """The numbers of every column, whose weights are changed first."""
        return {
            column: summarize(evaluator(change(params), progress=progress))
            for column, params in self.columns.items()
        }

    def answers(
        self, evaluator: Evaluator, params: Any, prompts: Sequence[Sequence[int]], **drawn: Any
    ) -> list[str]:
        """Texts of generated answers, as long as the forget panel's are."""
        found = evaluator.answers(params, prompts, panel=self._panel, **drawn)
        return [answer.text for answer in found]

    def encoded(self, probes: Sequence[Probe]) -> Rows:
        """Probes with their true answers."""
        data, tokenizer = self.prepared.experiment.data, self.prepared.tokenizer
        rows = encode_probes(
            tokenizer,
            [(probe, probe.answer) for probe in probes],
            template=data.template,
            system=data.system,
            max_length=data.max_length,
        )
        return replace(rows, unseen=unseen_token(tokenizer, data.pad_mask))

    def prompt(self, probe: Probe) -> list[int]:
        """The token ids before a probe's answer."""
        data = self.prepared.experiment.data
        return probe_prompt(
            self.prepared.tokenizer, probe, template=data.template, system=data.system
        )

    def fits(self, probes: Sequence[Probe]) -> bool:
        """Whether the model takes these questions with an answer, a generated or the true one."""
        tokenizer, most = self.prepared.tokenizer, self.prepared.model.config.max_length
        room = most - (self._panel.new_tokens or self.prepared.experiment.eval.max_new_tokens)
        longest = self._longest(probes)
        truths = max(
            len(tokenizer(p.answer, add_special_tokens=False)["input_ids"]) for p in probes
        )
        # The true answer's first token may be split in two, and its end token follows.
        return longest <= room and longest + truths + 2 <= most

    @cached_property
    def _panel(self) -> Panel:
        """How forget questions are asked."""
        return question_task(self.prepared.task, self.asked, retain=False).panels[0]

    def _longest(self, probes: Iterable[Probe]) -> int:
        """Tokens of the longest prompt."""
        return max((len(self.prompt(probe)) for probe in probes), default=0)


def rows_of(attack: str, setting: str, found: Numbers, names: Sequence[str] = FORGET) -> list[Row]:
    """A row for each of the numbers that there are."""
    return [
        Row(
            attack=attack,
            setting=setting,
            number=name,
            title=MEANINGS[name].title,
            wanted=MEANINGS[name].direction,
            values={column: numbers[name] for column, numbers in found.items()},
        )
        for name in names
        if all(name in numbers for numbers in found.values())
    ]


def mean_probability(scores: Scores) -> float:
    """Geometric mean probability per token of each row's answer, averaged over rows."""
    return float(metrics.probability(scores.nll).mean())
