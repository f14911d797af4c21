# SPDX-License-Identifier: Apache-2.0
"""The relearning attack: a few updates on a few rows, and what comes back of the others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unilogit_jax.data import Rows
from unilogit_jax.errors import ConfigError
from unilogit_jax.sharding import put_batch
from unilogit_jax.train import TrainState, finisher, init_state
from unilogit_jax.types import IGNORE
from unilogit_jax.workflows._bench import Bench, mean_probability
from unilogit_jax.workflows._findings import Curve, Found, Row
from unilogit_jax.workflows._prepare import Prepared
from unilogit_jax.workflows._programs import Program, reinforce_program

_TITLES = {
    "highest_probability": "highest probability of the true answer",
    "end_probability": "probability of the true answer at the end",
    "end_exact_match": "exact answers at the end",
    "updates_to_half": "updates until half of before's probability",
}
"""Number -> its title; all are wanted like gold's."""


@dataclass(frozen=True)
class _Lesson:
    """What is taught, and what is asked meanwhile."""

    source: str
    taught: Rows
    asked: Rows

    @property
    def words(self) -> str:
        """In words."""
        return f"{len(self.taught)} {self.source} row{'s' * (len(self.taught) > 1)}"


@dataclass(frozen=True)
class _Point:
    update: int
    probability: float
    exact: float


def relearn(bench: Bench) -> Found:
    """Trains every model shortly on a few rows and asks for the other forget rows meanwhile.

    The optimizer and the learning rate are those of `unlearn`, on the weights that it trains or
    with its adapters, at a constant rate. Gold goes through the same: what it gives at the end is
    what these updates teach anybody.

    Raises:
      ConfigError: there is nothing to teach, or nothing else left to ask.

    """
    rows: list[Row] = []
    curves: list[Curve] = []
    for lesson in [_lesson(bench, source) for source in bench.options.relearn_on]:
        teach, found = _Course(bench, lesson), {}
        for column, params in bench.columns.items():
            label = f"relearning {column} from {lesson.words}"
            with bench.console.stage(label, total=bench.options.updates) as progress:
                found[column] = teach(params, progress.update)
        curves.append(
            Curve(
                attack="relearn",
                title=f"after training on {lesson.words}",
                x="updates",
                y="probability of the true answer",
                lines={
                    c: [[p.update, p.probability] for p in course] for c, course in found.items()
                },
            )
        )
        if "before" in found:
            _warn_of_harm(bench, lesson, found["before"])
        rows += [
            Row(
                attack="relearn",
                setting=f"{lesson.words}, {bench.options.updates} updates",
                number=number,
                title=_TITLES[number],
                wanted="like gold",
                values=values,
            )
            for number, values in _numbers(found).items()
        ]
    return Found(rows, curves)


def _numbers(found: Mapping[str, Sequence[_Point]]) -> dict[str, dict[str, float | None]]:
    """Number -> its values by column, from how the models went."""
    numbers: dict[str, dict[str, float | None]] = {
        "highest_probability": {c: max(p.probability for p in went) for c, went in found.items()},
        "end_probability": {c: went[-1].probability for c, went in found.items()},
        "end_exact_match": {c: went[-1].exact for c, went in found.items()},
    }
    if "before" in found:
        half = found["before"][0].probability / 2
        numbers["updates_to_half"] = {
            c: next((p.update for p in went if p.probability >= half), None)
            for c, went in found.items()
        }
    return numbers


def _warn_of_harm(bench: Bench, lesson: _Lesson, before: Sequence[_Point]) -> None:
    """Where training makes even the model forget that knew it all, it brings back too little."""
    first, last = before[0].probability, before[-1].probability
    if last < 0.9 * first:
        training = bench.prepared.experiment.unlearn
        rate = bench.options.learning_rate or training.learning_rate
        bench.console.warn(
            f"relearn: training on {lesson.words} takes before itself from {first:.3f} to "
            f"{last:.3f}, so the rate is too high to bring much back. Try also --learning-rate "
            f"{rate / 10:g}"
        )


def _lesson(bench: Bench, source: str) -> _Lesson:
    """Draws the rows to teach; forget rows with an answer among theirs are not asked."""
    forget = bench.prepared.forget
    pool = forget if source == "forget" else bench.prepared.retain
    if pool is None:
        raise ConfigError("--relearn-on retain: there are none to keep. Take --relearn-on forget.")
    count = bench.options.rows or max(1, len(forget) // 10)
    if count > len(pool):
        raise ConfigError(f"--rows {count}: there are only {len(pool)} {source} rows.")
    rng = np.random.default_rng(bench.options.seed)
    taught = pool.some(np.sort(rng.choice(len(pool), count, replace=False)).tolist())
    known = {_answer(labels) for labels in taught.labels}
    others = [i for i, labels in enumerate(forget.labels) if _answer(labels) not in known]
    if not others:
        raise ConfigError(
            f"--rows {count}: every forget row has an answer that is taught, so none is left to "
            "ask. Teach fewer."
        )
    # Spread evenly, for neighbours are often about the same.
    most = bench.prepared.experiment.eval.max_items or len(others)
    count = min(most, len(others))
    asked = [others[k * len(others) // count] for k in range(count)]
    return _Lesson(source, taught, forget.some(asked))


def _answer(labels: np.ndarray) -> bytes:
    return labels[labels != IGNORE].tobytes()


class _Course:
    """Teaches one model after another; the update is compiled once."""

    def __init__(self, bench: Bench, lesson: _Lesson):
        self._bench, self._lesson = bench, lesson
        self._prepared = _as_training(bench, lesson.taught)
        self._step: Any = None

    def __call__(self, params: Any, tell: Callable[..., None]) -> list[_Point]:
        """Trains a model, and asks it before, on the way and at the end; `params` stay."""
        options, mesh = self._bench.options, self._prepared.mesh
        program = reinforce_program(self._prepared, "relearn", params)
        state = self._start(program)
        result = finisher(program.method, params, self._prepared.lora)
        course = [self._ask(result(state.params), 0)]
        for i in range(options.updates):
            state, _ = self._step(state, put_batch(program.batches(i), mesh))
            done = i + 1
            if done % options.every == 0 or done == options.updates:
                course.append(self._ask(result(state.params), done))
                tell(done, probability=course[-1].probability)
        return course

    def _ask(self, params: Any, update: int) -> _Point:
        scores = self._bench.score(params, self._lesson.asked)
        return _Point(update, mean_probability(scores), float(scores.exact.mean()))

    def _start(self, program: Program) -> TrainState:
        weights = program.weights
        state, shardings = init_state(
            weights.trained,
            program.optimizer(),
            axes=weights.axes,
            mesh=self._prepared.mesh,
            trainable=weights.trainable,
            consume=program.consumes,
        )
        if self._step is None:
            self._step = program.step(self._prepared, shardings)
        elif weights.frozen is not None:  # of the model before
            self._step = self._step._replace(frozen=weights.frozen)
        return state


def _as_training(bench: Bench, taught: Rows) -> Prepared:
    """The experiment whose forget rows are those to teach, and whose `unlearn` is the attack's."""
    prepared = bench.prepared
    experiment, options, shape = prepared.experiment, bench.options, prepared.mesh.shape
    training = experiment.unlearn
    parts = shape["data"] * shape["fsdp"] * training.microbatches
    changed: dict[str, Any] = {
        "steps": options.updates,
        # No more than in unlearning, which fitted; a short pass begins anew within a batch.
        "batch_size": -(-min(len(taught), training.batch_size) // parts) * parts,
        "packing": None,
        "schedule": "constant",
        "warmup": 0.0,
        "weight_decay": 0.0,
    }
    if options.learning_rate is not None:
        changed["learning_rate"] = options.learning_rate
    experiment = experiment.model_copy(
        update={"unlearn": training.model_copy(update=changed), "compare": ()}
    )
    return replace(prepared, experiment=experiment, forget=taught, retain=None)
