# SPDX-License-Identifier: Apache-2.0
"""The loop of one training stage: update, log, evaluate, checkpoint; resumes from one integer."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import jax
from jax.sharding import Mesh

from unilogit_jax.errors import CheckpointError, Preempted, TrainingError
from unilogit_jax.paths import AnyPath
from unilogit_jax.sharding import put_batch
from unilogit_jax.train.checkpoint import Checkpoints
from unilogit_jax.train.memory import out_of_memory
from unilogit_jax.train.preemption import notice_interrupt, notice_sigterm
from unilogit_jax.train.state import TrainState
from unilogit_jax.train.throughput import FlopsOf, Throughput
from unilogit_jax.train.trace import Trace
from unilogit_jax.train.watch import Best, Evaluate, Watch
from unilogit_jax.types import Batch

Metrics = dict[str, Any]


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
    step_fn: Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
    batch_at: Callable[[int], Batch]
    steps: int
    mesh: Mesh
    checkpoint_every: int = 1000
    log_every: int = 10
    max_skipped: int = 10
    """Updates in a row that may be skipped, because loss or gradient was not finite."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the weights depend on, by dotted key; a checkpoint made with others is refused."""
    watch: Watch | None = None
    """When to evaluate, when to stop early, and which weights to keep; needs `evaluate`."""
    evaluate: Evaluate | None = None
    flops_of: FlopsOf | None = None
    peak: float | None = None
    """Operations per second of all devices, for the utilisation in the log."""
    profile: AnyPath | None = None
    """Folder for a trace of a few updates."""
    memory_advice: str = "Cut the batch into more microbatches, or use more devices."
    """What to change where an update needs more memory than there is."""


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
      log: called as `log(stage=..., step=..., **numbers)` every `log_every` updates, after the
        first and the last one of the stage, and after every evaluation.

    Returns:
      The state after the last update; under a watch with a floor, with the best weights.

    Raises:
      TrainingError: loss or gradient was not finite too often in a row, or memory ran out.
      Preempted: the machine asked to stop; the last update is saved.
      CheckpointError: a checkpoint cannot be written, or belongs to another stage.

    """
    state, watch = resume(stage, state, checkpoints)
    if int(state.step) >= stage.steps or (watch is not None and watch.ended):
        return state
    with notice_sigterm() as leave, notice_interrupt() as check:
        return _Loop(stage, checkpoints, progress, log, leave, check).run(state, watch)


def resume(
    stage: Stage, state: TrainState, checkpoints: Checkpoints
) -> tuple[TrainState, Watch | None]:
    """State and watch of the newest checkpoint, or those of the start where there is none yet.

    Raises:
      CheckpointError: the checkpoint belongs to a stage of another length or other settings.

    """
    if checkpoints.latest() is None:
        return state, stage.watch
    facts = checkpoints.facts()
    before = facts.get("settings", stage.settings)
    changed = [
        f"{key} was {before.get(key)!r}, is {stage.settings.get(key)!r}"
        for key in sorted({*before, *stage.settings})
        if before.get(key) != stage.settings.get(key)
    ]
    if facts["steps"] != stage.steps:
        changed.append(f"the stage had {facts['steps']} updates, has {stage.steps}")
    if changed:
        raise CheckpointError(
            f"the checkpoint in {checkpoints.folder} was made with another configuration: "
            f"{'; '.join(changed)}. Resume with the configuration of that run, or start a new one."
        )
    saved, _ = checkpoints.restore(_trees(state))
    watch = stage.watch
    if watch is not None:
        watch = watch.recall(facts.get("watch") or {})
    return replace(state, params=saved["params"], **saved["training"]), watch


@dataclass(frozen=True)
class _Loop:
    stage: Stage
    checkpoints: Checkpoints
    progress: Progress
    log: Callable[..., None]
    leave: Callable[[int], bool]
    check: Callable[[], None]

    def run(self, state: TrainState, watch: Watch | None) -> TrainState:
        stage, start = self.stage, int(state.step)
        speed = Throughput(stage.flops_of, stage.peak)
        with Trace(stage.profile, first=start + 2) as trace:
            for i in range(start, stage.steps):
                batch, done = stage.batch_at(i), i + 1
                trace.before(done)
                step = self._first_update if i == start else stage.step_fn
                state, metrics = step(state, put_batch(batch, stage.mesh))
                trace.after(done, metrics)
                speed.add(batch)
                broken = False
                due = done % stage.log_every == 0 or done in (1, stage.steps)
                if due or i == start:
                    self._report(done, metrics, speed, compiled=i == start, logged=due)
                    broken = int(state.skipped_in_a_row) >= stage.max_skipped
                self.check()
                leaving = self.leave(done)
                with speed.aside():
                    judged = watch is not None and not broken and watch.due(done, stage.steps)
                    if watch is not None and judged:
                        state, watch = self._evaluate(state, watch, done)
                    ends = done == stage.steps or (watch is not None and bool(watch.ended))
                    if ends or judged or broken or leaving or done % stage.checkpoint_every == 0:
                        self._save(state, watch, done)
                if broken:
                    raise TrainingError(self._broken(state, done))
                if leaving:
                    raise self._preempted(done)
                if ends:
                    break
        # What came while the last update was saved or evaluated.
        self.check()
        if self.leave(stage.steps):
            raise self._preempted(int(state.step))
        return state

    def _preempted(self, done: int) -> Preempted:
        return Preempted(
            f"stage {self.stage.name}: the machine asked to stop (SIGTERM); update {done} of "
            f"{self.stage.steps} is saved. --resume goes on from there."
        )

    def _first_update(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """Compiles, says so (silence looks like a hang), and knows what to do when memory ends."""
        began = time.perf_counter()
        self.progress.note("compiling the step ...")
        try:
            state, metrics = jax.block_until_ready(self.stage.step_fn(state, batch))
        except jax.errors.JaxRuntimeError as error:
            if (reason := out_of_memory(error)) is None:
                raise
            raise TrainingError(
                f"stage {self.stage.name}: an update needs more memory than the device has "
                f"({reason}). {self.stage.memory_advice}"
            ) from error
        self.progress.note(f"compiled, first update done: {time.perf_counter() - began:.1f} s")
        return state, metrics

    def _report(
        self, done: int, metrics: Metrics, speed: Throughput, *, compiled: bool, logged: bool
    ) -> None:
        """Shows an update; the first after a resume is logged only if it would be without one."""
        numbers = {name: float(value) for name, value in metrics.items()}
        if numbers.get("skipped") == 0:
            del numbers["skipped"]  # worth a place only where there is something to see
        pace = speed.read()
        if not compiled:
            numbers |= pace
        if logged:
            self.log(stage=self.stage.name, step=done, **numbers)
        self.progress.update(done, **numbers)

    def _evaluate(self, state: TrainState, watch: Watch, done: int) -> tuple[TrainState, Watch]:
        """One more evaluation; at the end of the stage, the state with the weights to keep."""
        stage, best = self.stage, Best(self.checkpoints.folder)
        assert stage.evaluate is not None, "a watch needs something to evaluate with"
        numbers = stage.evaluate(state.params)
        watch, better = watch.judge(done, numbers)
        self.log(stage=stage.name, step=done, **numbers)
        shown = {name: numbers[name] for name in (watch.forget, watch.utility)}
        self.progress.note(
            f"update {done}: " + ", ".join(f"{name} {value:.3f}" for name, value in shown.items())
        )
        if better:
            best.save(done, state.params)
        if watch.ended:
            self.progress.note(f"stopping after update {done}: {watch.ended}")
        if (watch.ended or done == stage.steps) and watch.floor is not None:
            if watch.best_step is None:
                self.progress.note("no evaluation met the floor: the last weights are kept")
            elif watch.best_step != done:
                self.progress.note(f"the weights after update {watch.best_step} are kept")
                state = replace(state, params=best.restore(watch.best_step, state.params))
        return state, watch

    def _save(self, state: TrainState, watch: Watch | None, done: int) -> None:
        stage = self.stage
        facts = {"stage": stage.name, "steps": stage.steps, "settings": dict(stage.settings)}
        if watch is not None:
            facts["watch"] = watch.facts()
        self.checkpoints.save(done, _trees(state), facts)

    def _broken(self, state: TrainState, done: int) -> str:
        skipped = int(state.skipped_in_a_row)
        good = done - skipped
        return (
            f"stage {self.stage.name}: loss or gradients were not finite in {skipped} updates in a "
            f"row; the first was update {good + 1}, whose batch is the one to look at. The weights "
            f"after update {good} are kept, as checkpoint {done} in {self.checkpoints.folder}. A "
            "smaller learning_rate or clip is the usual remedy."
        )


def _trees(state: TrainState) -> dict[str, Any]:
    """What a checkpoint holds, the weights apart from the rest; the teacher is computed anew."""
    training = {
        "step": state.step,
        "skipped": state.skipped,
        "skipped_in_a_row": state.skipped_in_a_row,
        "opt_state": state.opt_state,
        "method_state": state.method_state,
    }
    return {"params": state.params, "training": training}
