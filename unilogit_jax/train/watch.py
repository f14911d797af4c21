# SPDX-License-Identifier: Apache-2.0
"""Evaluates weights while they are trained: when to stop, and which of them to keep."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from unilogit_jax.paths import AnyPath
from unilogit_jax.train.checkpoint import Checkpoints

Numbers = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Watch:
    """A rule over evaluations, and what it has seen so far.

    Weights are fit to be kept where their utility is at least `floor` times that of the start. Of
    these the ones that have forgotten most are the best. Training ends early once the utility has
    fallen below the floor or is NaN, or the forget number is down to its target.

    Example:
      >>> watch = Watch(every=10, start={"u": 0.8}, utility="u", forget="f", floor=0.9, target=0.1)
      >>> watch, better = watch.judge(10, {"u": 0.8, "f": 0.5})
      >>> better, watch.ended
      (True, None)
      >>> watch, better = watch.judge(20, {"u": 0.75, "f": 0.09})
      >>> better, watch.ended
      (True, 'f is 0.090, at most 0.1')

    """

    every: int
    """Updates between evaluations; the last update is evaluated too."""
    start: Numbers
    """The numbers of the weights that training began with."""
    utility: str
    """Name of the number that must not fall."""
    forget: str
    """Name of the number that shall."""
    floor: float | None = None
    """Share of the start's utility; None: none is asked for, and the last weights are kept."""
    target: float | None = None
    """Value of the forget number that is enough; None: none is."""
    best_step: int | None = None
    """The evaluation whose weights are the best so far."""
    best_forget: float = float("inf")
    ended: str | None = None
    """Why training ends early."""

    def due(self, step: int, steps: int) -> bool:
        """Whether to evaluate after this update."""
        return step % self.every == 0 or step == steps

    def judge(self, step: int, numbers: Numbers) -> tuple["Watch", bool]:
        """The rule after one more evaluation, and whether these are the best weights so far."""
        utility, forget = numbers[self.utility], numbers[self.forget]
        least = None if self.floor is None else self.floor * self.start[self.utility]
        # Not "below": a utility that is no number is not above the floor either.
        if least is not None and not utility >= least:
            return replace(self, ended=f"{self.utility} is {utility:.3f}, below {least:.3f}"), False
        better = least is not None and forget < self.best_forget
        seen = replace(self, best_step=step, best_forget=forget) if better else self
        if self.target is not None and forget <= self.target:
            seen = replace(seen, ended=f"{self.forget} is {forget:.3f}, at most {self.target:g}")
        return seen, better

    def facts(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        forget = None if self.best_step is None else self.best_forget
        return {"best_step": self.best_step, "best_forget": forget, "ended": self.ended}

    def recall(self, facts: Mapping[str, Any]) -> "Watch":
        """The rule with what a checkpoint kept."""
        known = {name: value for name, value in facts.items() if value is not None}
        return replace(self, **known)


Evaluate = Callable[[Any], Numbers]
"""(weights) -> numbers by name."""

BEST = ".best"
"""End of the name of the folder beside a stage's that holds its best weights so far."""


class Best:
    """The best weights of a stage so far, on disk."""

    def __init__(self, stage: AnyPath):
        self._folder = stage.parent / (stage.name + BEST)

    def save(self, step: int, params: Any) -> None:
        """Keeps these weights, and those before until the stage's own checkpoint is there too."""
        with Checkpoints(self._folder, keep=2) as checkpoints:
            # A run that went back to an earlier checkpoint comes by here a second time.
            checkpoints.discard_from(step)
            checkpoints.save(step, {"params": params}, {})

    def restore(self, step: int, like: Any) -> Any:
        """The weights of that step."""
        with Checkpoints(self._folder) as checkpoints:
            return checkpoints.restore({"params": like}, step)[0]["params"]
