# SPDX-License-Identifier: Apache-2.0
"""The loop of one training stage: next batch, update, log, checkpoint; resumes from one integer."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import jax
from jax.sharding import Mesh

from unilogit_jax.errors import CheckpointError, Preempted, TrainingError
from unilogit_jax.sharding import put_batch
from unilogit_jax.train.checkpoint import Checkpoints
from unilogit_jax.train.preemption import notice_sigterm
from unilogit_jax.train.state import TrainState
from unilogit_jax.types import Batch


@runtime_checkable
class Progress(Protocol):
    """Where the loop reports to."""

    def update(self, step: int, **numbers: float) -> None:
        """Says that `step` updates are done."""
        ...

    def note(self, text: str) -> None:
        """Says something once."""
        ...


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One training stage: what is iterated, for how long, and where it is kept."""

    name: str
    step_fn: Callable[[TrainState, Batch], tuple[TrainState, dict[str, Any]]]
    batch_at: Callable[[int], Batch]
    steps: int
    mesh: Mesh
    checkpoint_every: int = 1000
    log_every: int = 10
    max_skipped: int = 10
    """Updates in a row that may be skipped, because loss or gradient was not finite."""


def fit(
    stage: Stage,
    state: TrainState,
    checkpoints: Checkpoints,
    *,
    progress: Progress,
    log: Callable[..., None],
) -> TrainState:
    """Runs a stage to its end, from its newest checkpoint if it has one.

    Args:
      stage: the stage.
      state: a fresh state; its arrays are consumed.
      checkpoints: where the stage is saved; the last update always is.
      progress: told of each logged update.
      log: called as `log(stage=..., step=..., **numbers)` every `log_every` updates.

    Returns:
      The state after the last update.

    Raises:
      TrainingError: loss or gradient was not finite too often in a row.
      Preempted: the machine asked to stop; the last update is saved.

    """
    state = resume(stage, state, checkpoints)
    with notice_sigterm() as leave:
        return _updates(stage, state, checkpoints, progress, log, leave)


def _updates(
    stage: Stage,
    state: TrainState,
    checkpoints: Checkpoints,
    progress: Progress,
    log: Callable[..., None],
    leave: Callable[[int], bool],
) -> TrainState:
    start = int(state.step)
    for i in range(start, stage.steps):
        began = time.perf_counter()
        if i == start:
            # Silence here looks like a hang.
            progress.note("compiling the step ...")
        batch = put_batch(stage.batch_at(i), stage.mesh)
        state, metrics = stage.step_fn(state, batch)
        done, broken = i + 1, False
        if i == start:
            jax.block_until_ready(metrics)
            progress.note(f"compiled, first update done: {time.perf_counter() - began:.1f} s")
        if done % stage.log_every == 0 or done == stage.steps or i == start:
            numbers = {name: float(value) for name, value in metrics.items()}
            if numbers.get("skipped") == 0:
                del numbers["skipped"]  # worth a place only where there is something to see
            log(stage=stage.name, step=done, **numbers)
            progress.update(done, **numbers)
            broken = int(state.skipped_in_a_row) >= stage.max_skipped
        wanted = leave(done)
        if done % stage.checkpoint_every == 0 or done == stage.steps or broken or wanted:
            checkpoints.save(done, _saved(state), {"stage": stage.name, "steps": stage.steps})
        if broken:
            raise TrainingError(_broken(stage, done, int(state.skipped_in_a_row), checkpoints))
        if wanted:
            raise Preempted(
                f"stage {stage.name}: the machine asked to stop (SIGTERM); update {done} of "
                f"{stage.steps} is saved. --resume goes on from there."
            )
    return state


def _broken(stage: Stage, done: int, skipped: int, checkpoints: Checkpoints) -> str:
    good = done - skipped
    return (
        f"stage {stage.name}: loss or gradients were not finite in {skipped} updates in a row; the "
        f"first was update {good + 1}, whose batch is the one to look at. The weights after update "
        f"{good} are kept, as checkpoint {done} in {checkpoints.folder}. A smaller learning_rate "
        "or clip is the usual remedy."
    )


def resume(stage: Stage, state: TrainState, checkpoints: Checkpoints) -> TrainState:
    """The state of the newest checkpoint, or `state` itself where there is none yet.

    Raises:
      CheckpointError: the checkpoint belongs to a stage of another length.

    """
    if checkpoints.latest() is None:
        return state
    saved, facts = checkpoints.restore(_saved(state))
    if facts["steps"] != stage.steps:
        raise CheckpointError(
            f"the checkpoint in {checkpoints.folder} is of a stage of {facts['steps']} updates, "
            f"this one has {stage.steps}. Resume with the configuration of that run."
        )
    return replace(state, params=saved["params"], **saved["training"])


def _saved(state: TrainState) -> dict[str, Any]:
    """What a checkpoint holds, the weights apart from the rest; the teacher is computed anew."""
    training = {
        "step": state.step,
        "skipped": state.skipped,
        "skipped_in_a_row": state.skipped_in_a_row,
        "opt_state": state.opt_state,
        "method_state": state.method_state,
    }
    return {"params": state.params, "training": training}
