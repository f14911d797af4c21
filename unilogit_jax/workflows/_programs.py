# SPDX-License-Identifier: Apache-2.0
"""What each stage of a run computes: its batches, weights, optimizer and step; nothing runs yet."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax

from unilogit_jax import models
from unilogit_jax.config import Training
from unilogit_jax.data import (
    Batches,
    PackingWish,
    Rows,
    finetune_batches,
    unlearning_batches,
)
from unilogit_jax.methods import Finetune, Finishing, Method, Reinforce, Structured
from unilogit_jax.train import (
    EVERYTHING,
    Trainable,
    TrainState,
    count_steps,
    gradients_of,
    make_optimizer,
    make_step,
)
from unilogit_jax.train.throughput import work_of
from unilogit_jax.types import Head, ModelOutput
from unilogit_jax.workflows._prepare import Prepared
from unilogit_jax.workflows._runs import ADAPTERS, REINFORCED, TRAINED

Section = Literal["finetune", "unlearn"]

LOOKED_AT = 32
"""Updates whose batches are made, for averages."""


class Weights(NamedTuple):
    """What a stage trains, and how it makes a model of it. Arrays, or their shapes for a plan."""

    trained: Any
    axes: Any
    apply_fn: Callable[..., ModelOutput]
    ref_head: Head | None = None
    frozen: Any = None
    seed: int | None = None
    """Of dropout, where there is any."""
    trainable: Trainable = EVERYTHING


class Work(NamedTuple):
    """What an update takes."""

    tokens: float
    """Real ones."""
    flops: float
    """Operations, forward and backward; padding and recomputation do not count."""


class Program(NamedTuple):
    """One stage."""

    name: str
    section: Section
    """The part of the configuration that sets its training."""
    method: Method
    batches: Batches
    weights: Weights
    training: Training
    updates: int
    consumes: bool
    """Whether the weights to start from are needed no more."""

    def optimizer(self) -> optax.GradientTransformation:
        """The optimizer and its schedule."""
        training = self.training
        return make_optimizer(
            self.updates,
            learning_rate=training.learning_rate,
            name=training.optimizer,
            schedule=training.schedule,
            warmup=training.warmup,
            weight_decay=training.weight_decay,
            clip=training.clip,
        )

    def flops_of(self, config: models.DecoderConfig) -> Callable[[Sequence[int], int], int]:
        """Operations of an update, from the lengths of its examples and its supervised tokens."""
        frozen, layer = self.weights.frozen is not None, self.method.needs.layer
        gradients = gradients_of(self.method)
        return partial(models.update_flops, config, frozen=frozen, layer=layer, gradients=gradients)

    def work(self, config: models.DecoderConfig) -> Work:
        """What an update takes, on average over the first ones."""
        # References, which may be hidden states in files, do not change the count.
        streams = tuple(replace(stream, references={}) for stream in self.batches.streams)
        batches = replace(self.batches, streams=streams)
        work = [work_of(batches(i)) for i in range(min(self.updates, LOOKED_AT))]
        flops = self.flops_of(config)
        return Work(
            tokens=float(np.mean([sum(lengths) for lengths, _ in work])),
            flops=float(np.mean([flops(*each) for each in work])),
        )

    def method_state(self, prepared: Prepared) -> Any:
        """What the method starts with."""
        if not isinstance(self.method, Structured):
            return ()
        key = jax.random.key(prepared.experiment.output.seed)
        return self.method.start(key, width=prepared.model.config.width)

    def step(self, prepared: Prepared, shardings: TrainState) -> Any:
        """The jitted update."""
        weights = self.weights
        return make_step(
            self.method,
            weights.apply_fn,
            self.optimizer(),
            prepared.mesh,
            shardings=shardings,
            frozen=weights.frozen,
            trainable=weights.trainable,
            seed=weights.seed,
            rounding_seed=prepared.experiment.output.seed,
            microbatches=self.training.microbatches,
        )


def finetune_program(
    prepared: Prepared, name: str, rows: Rows, params: Any, *, seed: int
) -> Program:
    """Finetuning on some rows."""
    training = prepared.experiment.finetune
    updates = _updates(training, rows)
    batches = finetune_batches(
        rows,
        batch_size=training.batch_size,
        seed=seed,
        packing=_packing(prepared, training, updates),
    )
    weights = _whole_model(prepared, "finetune", params)
    return Program(name, "finetune", Finetune(), batches, weights, training, updates, True)


def unlearn_program(
    prepared: Prepared,
    name: str,
    method: Method,
    params: Any,
    *,
    references: Mapping[int, Mapping[str, np.ndarray]],
    ref_head: Head | None,
    last: bool = True,
) -> Program:
    """Unlearning, of all weights or with adapters; `references` are those of `reference_for`.

    `last`: no other stage begins with the same weights.
    """
    training, seed = prepared.experiment.unlearn, prepared.experiment.output.seed
    updates = _updates(training, prepared.forget)
    batches = unlearning_batches(
        prepared.forget,
        prepared.retain,
        batch_size=training.batch_size,
        retain_size=training.retain_size,
        seed=seed,
        sampling=training.retain_sampling,
        packing=_packing(prepared, training, updates),
        references=references,
        alternates=prepared.alternates(method),
        with_forget=method.needs.forget,
    )
    if prepared.lora is None:
        weights = _whole_model(prepared, "unlearn", params, ref_head, layer=method.needs.layer)
    else:
        weights = _adapters(prepared, prepared.lora, params, ref_head, layer=method.needs.layer)
        name += ADAPTERS
    whole, finishes = prepared.lora is None, isinstance(method, Finishing)
    if whole and finishes:
        name += TRAINED
    consumes = not whole or (last and not finishes)  # fresh adapters are nobody else's
    return Program(name, "unlearn", method, batches, weights, training, updates, consumes)


def reinforce_program(prepared: Prepared, name: str, params: Any) -> Program:
    """Training on the forget rows, as unlearning is set; `params` are needed after it."""
    return unlearn_program(
        prepared,
        name + REINFORCED,
        Reinforce(),
        params,
        references={},
        ref_head=None,
        last=False,
    )


def _whole_model(
    prepared: Prepared,
    section: Section,
    params: Any,
    ref_head: Head | None = None,
    *,
    layer: int | None = None,
) -> Weights:
    trainable = prepared.trainable(section)
    model = prepared.model.clone(trained=trainable.span)
    axes = models.logical_axes(model)
    apply = models.apply_fn(up_to(model, layer))
    return Weights(params, axes, apply, ref_head, trainable=trainable)


def up_to(model: models.Decoder, layer: int | None) -> models.Decoder:
    """The model that a method needs: all of it, or up to the layer that it acts on."""
    return model if layer is None else models.to_layer(model, layer)


def _adapters(
    prepared: Prepared,
    lora: models.Lora,
    params: Any,
    ref_head: Head | None,
    *,
    layer: int | None,
) -> Weights:
    model, mesh, seed = prepared.model, prepared.mesh, prepared.experiment.output.seed
    planned = isinstance(jax.tree.leaves(params)[0], jax.ShapeDtypeStruct)
    return Weights(
        trained=lora.shapes(model)
        if planned
        else lora.init(model, jax.random.key(seed), mesh=mesh),
        axes=lora.logical_axes(model),
        apply_fn=models.lora_apply_fn(up_to(model, layer), lora),
        ref_head=ref_head,
        frozen=params,
        seed=seed if lora.dropout > 0 else None,
    )


def _packing(prepared: Prepared, training: Training, updates: int) -> PackingWish | None:
    if training.packing is None:
        return None
    shape = prepared.mesh.shape
    parts = shape["data"] * shape["fsdp"] * training.microbatches
    return PackingWish(updates=updates, length=training.packing, multiple=parts)


def _updates(training: Training, rows: Rows) -> int:
    return count_steps(
        len(rows), batch_size=training.batch_size, steps=training.steps, epochs=training.epochs
    )
