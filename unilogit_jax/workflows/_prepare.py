# SPDX-License-Identifier: Apache-2.0
"""Everything a run needs before its first update, checked before anything is written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import jax
from jax.sharding import Mesh

from unilogit_jax import models
from unilogit_jax.config import Experiment, Scratch
from unilogit_jax.data import (
    Example,
    Rows,
    Task,
    Tokenizer,
    check_tokens,
    check_vocabulary,
    plain_prompt,
    train_tokenizer,
)
from unilogit_jax.evaluation import Evaluator
from unilogit_jax.hosts import agreed
from unilogit_jax.methods import Method
from unilogit_jax.run import RunFolder
from unilogit_jax.run.trackers import Trackers
from unilogit_jax.sharding import make_mesh
from unilogit_jax.train import Trainable, choose_trainable
from unilogit_jax.types import FORGET, RETAIN
from unilogit_jax.workflows._alternates import alternate_rows
from unilogit_jax.workflows._checks import check_rows
from unilogit_jax.workflows._reference import read_reference
from unilogit_jax.workflows._rows import TaskRows, encode_rows, encode_some, full_rows, read_task
from unilogit_jax.workflows._runs import (
    TOKENIZER_FILE,
    is_run,
    load_decoder_config,
    load_stage,
    load_tokenizer_of,
)
from unilogit_jax.workflows._sources import tokenizer_of


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A checked experiment: task, tokenizer, rows, model and (unless made here) its weights."""

    experiment: Experiment
    task: Task
    tokenizer: Any
    """A `Tokenizer`; None in a plan without one."""
    model: Any
    base: Any | None
    """Weights to start from; None for a model made from scratch."""
    mesh: Mesh
    forget: Rows
    retain: Rows | None
    everything: Rows
    trackers: Trackers = field(default_factory=Trackers)
    """Where the numbers of a run are shown too; they are started with it."""

    @cached_property
    def reference(self) -> dict[str, Any] | None:
        """The log to measure against, if the experiment names one."""
        return read_reference(self.experiment.eval.reference, self.task.suite)

    @property
    def parameters(self) -> int:
        """Number of weights of the model."""
        return sum(x.size for x in jax.tree.leaves(models.param_shapes(self.model)))

    @property
    def rows_in_words(self) -> str:
        """How many rows there are, documents being cut into rows."""
        kept = 0 if self.retain is None else len(self.retain)
        return f"{len(self.forget)} rows to forget, {kept} to keep"

    @property
    def lora(self) -> models.Lora | None:
        """The low-rank adapters to unlearn with, if any."""
        section = self.experiment.lora
        return None if section is None else models.Lora(**section.model_dump())

    def trainable(self, stage: Literal["finetune", "unlearn"]) -> Trainable:
        """The weights that finetuning or unlearning trains."""
        return _trainable(self.experiment, stage, self.model)

    def alternates(self, method: Method) -> dict[int, Rows]:
        """Other answers to the questions of forget and retain rows, where the method wants some."""
        data = self.experiment.data

        def encode(examples: Sequence[Example], what: str) -> Rows:
            if self.tokenizer is None:
                return full_rows(len(examples), data.max_length)
            return encode_some(self.experiment, self.tokenizer, examples, what)

        return alternate_rows(
            method, self.task, encode, refusals=data.refusals, seed=self.experiment.output.seed
        )

    def rows(self, method: Method) -> dict[int, Rows]:
        """All rows that a method looks at, by set."""
        own = {FORGET: self.forget} | ({} if self.retain is None else {RETAIN: self.retain})
        return own | self.alternates(method)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Measures weights of this model on this task; refuses items that do not fit it."""
        data, settings = self.experiment.data, self.experiment.eval
        return Evaluator(
            self.model,
            self.tokenizer,
            self.task,
            mesh=self.mesh,
            template=data.template,
            pad_mask=data.pad_mask,
            system=data.system,
            max_length=data.max_length,
            max_new_tokens=settings.max_new_tokens,
            max_items=settings.max_items,
            batch_size=settings.batch_size,
            grad_norm=settings.grad_norm,
        )


Progress = Callable[[int, int], None]
"""Told the bytes read so far, and of all."""


def prepare(
    experiment: Experiment, run: RunFolder | None = None, *, progress: Progress | None = None
) -> Prepared:
    """Reads data and weights and encodes the rows; writes nothing.

    Args:
      experiment: the configuration.
      run: an existing run of it, whose tokenizer is used instead of training one anew.
      progress: told how far the reading of weights is.

    Raises:
      UnilogitError: whatever is wrong with the data, the weights or the mesh, in one sentence.

    """
    mesh = make_mesh(**experiment.mesh.model_dump())
    check_rows(experiment, mesh)
    task = read_task(experiment)
    if experiment.model.scratch is not None:
        tokenizer, model = from_scratch(experiment.model.scratch, task, experiment, run, mesh)
        base = None
    else:
        tokenizer, model, base = from_weights(experiment, mesh, progress)
    rows = encode_rows(experiment, task, tokenizer)
    return put_together(
        experiment, mesh=mesh, task=task, tokenizer=tokenizer, model=model, base=base, rows=rows
    )


def put_together(experiment: Experiment, *, model: Any, rows: TaskRows, **others: Any) -> Prepared:
    """The prepared experiment, with what its configuration says of the model."""
    check_tokens(rows.everything, model.config.vocab_size)
    model = model.clone(remat=experiment.model.remat)
    prepared = Prepared(experiment=experiment, model=model, **rows._asdict(), **others)
    if prepared.lora is not None:
        prepared.lora.shapes(model)  # refuses targets that the model does not have
    for method in experiment.methods:
        prepared.alternates(method)  # refuses what is missing before anything is trained
    return prepared


def from_scratch(
    scratch: Scratch, task: Task, experiment: Experiment, run: RunFolder | None, mesh: Mesh
) -> tuple[Tokenizer, Any]:
    """Tokenizer and model of an experiment that makes its own."""
    if run is not None and (run.tokenizer / TOKENIZER_FILE).is_file():
        tokenizer = load_tokenizer_of(run)
    else:
        # Wrong answers belong to the text: split into more tokens than true ones they would look
        # likelier per token, and choices and truth ratios would be biased.
        wrong = [text for probe in task.probes for text in probe.wrong]
        texts = [_text(e) for e in task.forget + task.retain] + wrong
        tokenizer = train_tokenizer(texts, vocab_size=scratch.vocab_size)
    config = models.DecoderConfig.scratch(
        vocab_size=len(tokenizer),
        width=scratch.width,
        layers=scratch.layers,
        heads=scratch.heads,
        kv_heads=scratch.kv_heads or scratch.heads,
        max_length=experiment.data.max_length + experiment.eval.max_new_tokens,
        dtype=experiment.model.dtype,
        param_dtype=experiment.model.param_dtype,
        attention=experiment.model.attention,
    )
    check_attention(experiment, config, mesh)
    check_patterns(experiment, config)
    return tokenizer, models.Decoder(config, mesh=mesh)


def _text(example: Example) -> str:
    # With the words of the prompt, which must be in the vocabulary too.
    return (
        f"{plain_prompt(example.question)} {example.answer}" if example.question else example.answer
    )


def from_weights(
    experiment: Experiment, mesh: Mesh, progress: Progress | None
) -> tuple[Tokenizer, Any, Any]:
    """Tokenizer, model and weights of an experiment that names some."""
    settings = experiment.model
    source = settings.weights or ""
    if is_run(source):
        run = agreed(lambda: RunFolder.open(source))
        check_patterns(experiment, load_decoder_config(run))
        model, base = load_stage(
            run, dtype=settings.dtype, param_dtype=settings.param_dtype, mesh=mesh
        )
        return load_tokenizer_of(run), model, base
    folder = models.resolve(source, revision=settings.revision, weights=False)
    tokenizer = tokenizer_of(folder)
    config = models.read_decoder_config(folder, family=settings.family)
    check_vocabulary(tokenizer, config.vocab_size, folder)
    check_attention(experiment, config, mesh)
    check_patterns(experiment, config)
    model, base = models.load(
        source,
        revision=settings.revision,
        dtype=settings.dtype,
        param_dtype=settings.param_dtype,
        mesh=mesh,
        family=settings.family,
        attention=settings.attention,
        progress=progress,
    )
    return tokenizer, model, base


def check_attention(experiment: Experiment, config: models.DecoderConfig, mesh: Mesh) -> None:
    """Refuses a kernel of attention that cannot work here, before weights are read."""
    models.check_kernel(
        experiment.model.attention,
        mesh.devices.flat[0],
        dtype=experiment.model.dtype,
        head_dim=config.head_dim,
        softcap=config.attention_softcap,
    )


def check_patterns(experiment: Experiment, config: models.DecoderConfig) -> None:
    """Refuses patterns that name no weight of the model, and layers that it does not have.

    Before weights are read.
    """
    for stage in ("finetune", "unlearn"):
        _trainable(experiment, stage, models.Decoder(config))
    for method in (experiment.method, *experiment.compare):
        if method.needs.layer is not None:
            models.to_layer(models.Decoder(config), method.needs.layer)


def _trainable(
    experiment: Experiment, stage: Literal["finetune", "unlearn"], model: models.Decoder
) -> Trainable:
    training = getattr(experiment, stage)
    return choose_trainable(
        models.param_shapes(model), training.trainable, training.learning_rates, where=f"{stage}."
    )
