# SPDX-License-Identifier: Apache-2.0
"""What the runs of a seed of tofu_small.py share: target and gold models, and what is measured."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from distances import by_class, classes_of, make_kl
from scipy.stats import hmean

from unilogit_jax.config import dump_config, read_config
from unilogit_jax.data import Example, encode
from unilogit_jax.evaluation import Evaluation, summarize
from unilogit_jax.metrics import compression_ratio
from unilogit_jax.paths import to_path
from unilogit_jax.run import Console, RunFolder
from unilogit_jax.workflows import unlearn
from unilogit_jax.workflows._nested import run_at
from unilogit_jax.workflows._prepare import prepare
from unilogit_jax.workflows._runs import GOLD, TARGET, load_stage
from unilogit_jax.workflows._stages import train_stage
from unilogit_jax.workflows._stored import read_evaluation

COMMON = (
    *("data.max_length=128", "eval.max_items=null", "eval.gold=true", "eval.max_new_tokens=96"),
    *("model.scratch.vocab_size=2048", "model.scratch.layers=3"),
    *("finetune.epochs=20", "finetune.batch_size=16", "finetune.warmup=0.03"),
    "finetune.weight_decay=0.5",  # with less, gold is too sure of what it never saw
    *("finetune.packing=256", "unlearn.packing=256", "unlearn.retain_ratio=1"),
    *("output.checkpoint_every=500", "method.retain_weight=1"),
)
"""What differs from the packaged configuration `tofu-small`."""


@dataclass(frozen=True)
class Models:
    """What a seed's runs share: the target, two gold models, what they say."""

    folder: Path
    data: Path
    seed: int
    common: Sequence[str]

    def config(self, *words: str) -> Any:
        """The experiment with some settings."""
        own = (f"data.dir={self.data}", f"output.seed={self.seed}")
        return read_config("tofu-small", *COMMON, *own, *self.common, *words)

    @cached_property
    def first(self) -> RunFolder:
        """The run that makes target and gold, with the fewest updates of any method."""
        return self._run_at(self.folder / "models", self.config("unlearn.steps=1"))

    @cached_property
    def prepared(self) -> Any:
        """Data, tokenizer and model."""
        return prepare(self.config().experiment)

    @cached_property
    def weights(self) -> dict[str, Any]:
        """Of the target and both gold models."""
        own = {name: self._load(self.first, name) for name in (TARGET, GOLD)}
        return own | {"gold2": self.second_gold()}

    def second_gold(self) -> Any:
        """Trained like the first, with other initial weights and another order."""
        place, words = to_path(self.folder / "gold2"), dump_config(self.config().experiment)
        there = (place / "config.yaml").is_file()
        run = (
            RunFolder(place) if there else RunFolder.create("", "", config_yaml=words, exact=place)
        )
        prepared, quiet = self.prepared, Console(quiet=True)
        own = {"start": None, "seed": self.seed + 2, "run": run, "console": quiet}
        return train_stage(prepared, "gold2", prepared.retain, **own)

    @cached_property
    def rows(self) -> dict[str, Any]:
        """The forget answers to the questions of training, and to the same in other words."""
        task = self.prepared.task
        asked = self.config("data.questions=paraphrased").experiment
        other = [p for p in prepare(asked).task.probes if p.group == "forget"]
        pairs = zip(task.forget, other, strict=True)
        examples = [Example(p.question, row.answer, names=row.names) for row, p in pairs]
        data = self.prepared.experiment.data
        options = {"template": data.template, "max_length": data.max_length, "what": "rows"}
        return {
            "kl": encode(self.prepared.tokenizer, task.forget, **options),
            "kl_paraphrased": encode(self.prepared.tokenizer, examples, **options),
        }

    @cached_property
    def classes(self) -> dict[str, np.ndarray]:
        """Of the tokens of `rows`."""
        prepared = self.prepared
        return {
            name: classes_of(prepared.tokenizer, rows, prepared.task.forget, prepared.retain)
            for name, rows in self.rows.items()
        }

    @cached_property
    def kl(self) -> Any:
        """Measures between two sets of weights."""
        return make_kl(self.prepared.model, batch_size=50)

    @cached_property
    def gold(self) -> Evaluation:
        """What gold says."""
        return read_evaluation(self.first.eval / "gold.json").evaluation

    @cached_property
    def most_repetitive(self) -> float:
        """Compression ratio that one answer of a hundred of gold's exceeds."""
        answers = [i.answer for i in self.gold.of("forget")]
        return float(np.quantile([compression_ratio(text) for text in answers if text], 0.99))

    def numbers(self) -> dict[str, dict[str, float]]:
        """Of the models themselves: start, gold, and the second gold as the floor."""
        start = read_evaluation(self.first.eval / "before.json").evaluation
        second = self.prepared.evaluator(self.weights["gold2"])
        return {
            "start": self.distances(self.weights[TARGET]) | self.behaviour(start),
            "gold": self.behaviour(self.gold),
            "floor": self.distances(self.weights["gold2"], golds=(GOLD,)) | self.behaviour(second),
        }

    def run(self, name: str, setting: tuple[str, ...]) -> dict[str, float]:
        """Unlearns as the setting says, measures, and leaves the weights away."""
        place = self.folder / "_".join(setting).replace("method.", "").replace("unlearn.", "")
        run = self._run_at(place, self.config(*setting), beside=self.first)
        after = read_evaluation(run.eval / "after.json").evaluation
        found = self.distances(self._load(run, None)) | self.behaviour(after)
        for leftover in (run.checkpoints, run.references):
            shutil.rmtree(str(leftover), ignore_errors=True)
        return found

    def distances(self, params: Any, golds: tuple[str, ...] = (GOLD, "gold2")) -> dict[str, float]:
        """KL from gold, the mean over gold models, by class of token."""
        found: dict[str, float] = {}
        for name, rows in self.rows.items():
            kl = [self.kl(self.weights[gold], params, rows) for gold in golds]
            found |= by_class(np.mean(kl, axis=0), self.classes[name], name)
        return found

    def behaviour(self, evaluation: Evaluation) -> dict[str, float]:
        """The numbers of the suite, and malformed answers as fixed for this study."""
        answers = [(i.answer or "", i.malformed) for i in evaluation.of("forget")]
        most = self.most_repetitive
        malformed = [bad or compression_ratio(text) > most for text, bad in answers]
        found = summarize(evaluation, self.gold) | {"malformed": float(np.mean(malformed))}
        # TOFU's own utility asks about the world too, of which a model made here knows nothing.
        return found | {"kept": hmean([found["retain_probability"], found["retain_rouge_l"]])}

    def _run_at(self, place: Path, loaded: Any, **options: Any) -> RunFolder:
        return run_at(unlearn, to_path(place), loaded, Console(quiet=True), **options)

    def _load(self, run: RunFolder, stage: str | None) -> Any:
        return load_stage(run, stage, mesh=self.prepared.mesh)[1]
