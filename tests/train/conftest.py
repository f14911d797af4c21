# SPDX-License-Identifier: Apache-2.0
"""A tiny model, tiny rows, and a function that makes a training stage of them."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from unilogit_jax import models, sharding
from unilogit_jax.data import Rows, unlearning_batches
from unilogit_jax.methods import Unilogit
from unilogit_jax.train import (
    EVERYTHING,
    Checkpoints,
    Stage,
    fit,
    init_state,
    make_optimizer,
    make_step,
    reference_for,
)
from unilogit_jax.types import ALTERNATE, FORGET, IGNORE, RETAIN, RETAIN_ALTERNATE

PACE = ("tokens_per_second", "mfu")
"""Numbers of the log that no two runs have in common."""
CONFIG = models.DecoderConfig.scratch(vocab_size=64, width=32, layers=2, heads=4, kv_heads=2)


def make_rows(n: int, length: int, seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 64, (n, length)).astype(np.int32)
    lengths = rng.integers(length // 2, length + 1, n).astype(np.int32)
    labels = np.full((n, length), IGNORE, np.int32)
    for r, size in enumerate(lengths):
        labels[r, 2 : size - 1] = tokens[r, 3:size]
    return Rows(tokens, labels, lengths)


class Progress:
    """Takes what the loop says and keeps the steps."""

    def __init__(self):
        self.steps: list[int] = []

    def update(self, step: int, **numbers: float) -> None:
        self.steps.append(step)

    def note(self, text: str) -> None:
        pass


def _further(x: jax.Array) -> jax.Array:
    """In place of weights trained further on the forget rows."""
    return 1.1 * x


class Rig:
    """The pieces of a run of `steps` updates on a mesh; every run starts from the same weights."""

    def __init__(
        self,
        mesh_sizes: dict[str, int],
        method: Any = None,
        steps: int = 6,
        param_dtype: str = "float32",
        rows: tuple[int, int] = (8, 16),
        **options: Any,
    ):
        count = int(np.prod(list(mesh_sizes.values())))
        self.mesh = sharding.make_mesh(**mesh_sizes, devices=jax.devices()[:count])
        self.method = Unilogit(retain_weight=2.0) if method is None else method
        config = dataclasses.replace(CONFIG, param_dtype=param_dtype)
        self.model, self.params = models.init(config, jax.random.key(1), mesh=self.mesh)
        layer = self.method.needs.layer
        self.apply = models.apply_fn(
            self.model if layer is None else models.to_layer(self.model, layer)
        )
        self.forget, retain = make_rows(24, 12, 0), make_rows(40, 16, 1)
        self.optimizer = make_optimizer(steps, learning_rate=1e-2, schedule="cosine")
        own = {FORGET: self.forget, RETAIN: retain}
        needs = self.method.needs
        alternates = {}
        if needs.alternates & {"refusal", "answer", "relabelled"}:
            alternates[ALTERNATE] = make_rows(24, 14, 2)
        if "retain_refusal" in needs.alternates:
            alternates[RETAIN_ALTERNATE] = make_rows(40, 14, 3)
        trained = None if needs.reinforced is None else jax.tree.map(_further, self.params)
        references, self.ref_head = reference_for(
            self.method,
            self.apply,
            self.params,
            own | alternates,
            batch_size=16,
            mesh=self.mesh,
            reinforced=trained,
        )
        self.batches = unlearning_batches(
            self.forget,
            retain,
            batch_size=rows[0],
            retain_size=rows[1],
            seed=0,
            references=references,
            alternates=alternates,
            with_forget=needs.forget,
            **options,
        )
        self.steps, self.trainable = steps, EVERYTHING

    def state(self):
        return init_state(
            self.params,
            self.optimizer,
            axes=models.logical_axes(self.model),
            mesh=self.mesh,
            ref_head=self.ref_head,
            trainable=self.trainable,
            method_state=self.method.start(jax.random.key(7), width=CONFIG.width),
        )

    def stage(self, **changes: Any) -> Stage:
        _, shardings = self.state()
        options = {"steps": self.steps, "checkpoint_every": 2, "log_every": 1} | changes
        step_fn = make_step(
            self.method,
            self.apply,
            self.optimizer,
            self.mesh,
            shardings=shardings,
            trainable=self.trainable,
        )
        options = {"batch_at": self.batches} | options
        return Stage(name="unlearn", step_fn=step_fn, mesh=self.mesh, **options)

    def run(self, folder, stage: Stage | None = None):
        """The final state and the logged lines."""
        lines: list[dict[str, float]] = []
        with Checkpoints(folder, keep=3) as checkpoints:
            state = fit(
                self.stage() if stage is None else stage,
                self.state()[0],
                checkpoints,
                progress=Progress(),
                log=lambda **line: lines.append({k: v for k, v in line.items() if k not in PACE}),
            )
        return state, lines


@pytest.fixture
def rig():
    return Rig


@pytest.fixture
def rows():
    return make_rows
