# SPDX-License-Identifier: Apache-2.0
"""Unilogit: uniform-target self-distillation (Vasilev et al. 2025, arXiv:2505.06027)."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from unilogit_jax.losses import unilogit_from_log_odds, unilogit_sequence_from_log_odds
from unilogit_jax.methods._common import Unlearning, answer_mean
from unilogit_jax.methods._fields import Count
from unilogit_jax.methods._protocol import Comparison, Given, Needs
from unilogit_jax.ops import Divergence
from unilogit_jax.types import FORGET, TokenStats

Source = Literal["uniform", "ngram", "name_swap", "reference", "own"]
_CAPPED = ("ngram", "name_swap", "reference")


@dataclass(frozen=True, kw_only=True)
class Unilogit(Unlearning):
    """The current model is its own teacher, with the label's probability set to 1/V.

    L = mean_t KL(p_t || target_t) + retain_weight * NLL(retain)

    The target keeps the ratios of all other tokens. No reference model is needed.

    By default this is the paper's loss. A target is a pair (tau, q*), the label's probability and
    the distribution of all others; `tau` and `alternatives` choose another pair, `direction` and
    `unit` another divergence from it, `select` the tokens that it is for.

    Reference: arXiv:2505.06027.

    Raises:
      ValueError: options that do not go together.

    """

    answers_apart: ClassVar[bool] = True

    name: Literal["unilogit"] = "unilogit"
    direction: Literal["reverse", "forward", "reverse_full"] = "reverse"
    """KL(model || target), the paper's, or KL(target || model). With alternatives initial, reverse
    is the paper's divergence of the label plus KL(q0 || q) of the others, and reverse_full the
    whole KL(model || target)."""
    tau: Source | float | None = "uniform"
    """The target's label probability: uniform is the paper's 1/V (so is null), or a number; ngram
    counts 4-grams of the retain rows, name_swap asks the start model about rows with other names,
    reference asks the model `tau_weights`, all between 1/V and the start model's own; own is an
    array that a program hands in."""
    tau_weights: str | None = None
    """A model that never saw the forget rows, for tau reference: a folder, a URL, a Hub id or a run
    with the same tokenizer."""
    tau_names: Count = 16
    """With how many other names tau name_swap reads each row; each costs a forward pass over the
    forget rows, before the first update."""
    tau_mean: Literal["arithmetic", "geometric"] = "arithmetic"
    """How tau name_swap averages the label's probabilities; the geometric mean is the smaller."""
    alternatives: Literal["current", "initial"] = "current"
    """Whose distribution of the other tokens the target has: the model's own, the paper's, or the
    start model's, which holds them in place."""
    top_k: Count = 8
    """How many of the start model's other tokens are stored for each label."""
    select: bool = False
    """Only labels of which the start model is more than twice as sure as tau get a target, with
    the paper's 1/V; all others keep the start model's distribution, KL(p0 || p)."""
    unit: Literal["token", "sequence"] = "token"
    """token is the paper's; sequence lowers the probability of each whole answer to V^-n."""

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ValueError(problem)

    def _problem(self) -> str:
        """What does not go together, if anything."""
        number = isinstance(self.tau, int | float)
        initial = self.alternatives == "initial"
        # With 0 the divergence from the model itself is unlikelihood; all others are infinite.
        least = self.tau == 0 and self.direction == "forward" and not (initial or self.select)
        if number and not (least or 0 < float(cast(float, self.tau)) < 1):
            return f"tau={self.tau} is outside 0 < tau < 1"
        if not number and self.tau is not None and self.tau not in get_args(Source):
            return f"tau={self.tau!r} is no number and none of {', '.join(get_args(Source))}"
        if self.top_k < 1:
            return f"top_k={self.top_k} stores no token: at least 1"
        if self.tau_names < 1:
            return f"tau_names={self.tau_names} reads no row: at least 1"
        if (self.tau == "reference") != (self.tau_weights is not None):
            return "tau=reference and tau_weights go together: give both or neither"
        if self.direction == "reverse_full" and not initial:
            return "direction=reverse_full needs alternatives=initial: else it is reverse"
        if self.select and initial and self.direction != "forward":
            return "select=true with alternatives=initial needs direction=forward"
        plain = self.direction == "reverse" and self._tau == "uniform"
        if self.unit == "sequence" and (not plain or initial or self.select):
            return (
                "unit=sequence has a form with direction=reverse, tau=uniform, "
                "alternatives=current and select=false only"
            )
        return ""

    @property
    def _tau(self) -> Source | float:
        return "uniform" if self.tau is None else self.tau

    @property
    def forget_needs(self) -> Needs:
        """What the start model says of forget labels, and each one's own target."""
        stored = self.select or self.alternatives == "initial"
        return Needs(
            ref_log_odds=frozenset({FORGET}) if stored or self._tau in _CAPPED else frozenset(),
            ref_top=self.top_k if stored else 0,
            tau=self._tau if isinstance(self._tau, str) and self._tau != "uniform" else "",
        )

    @property
    def token_sets(self) -> frozenset[int]:
        """Forget tokens too where only some of them are compared."""
        both = self.select and self.alternatives == "current"
        return super().token_sets | ({FORGET} if both else frozenset())

    def forget_token_loss(
        self, log_odds: Float[Array, "*T"], given: Given, *, vocab_size: int
    ) -> Float[Array, "*T"]:
        """Unilogit; 0 at tokens that are not selected."""
        loss = unilogit_from_log_odds(
            log_odds,
            vocab_size=vocab_size,
            direction="forward" if self.direction == "forward" else "reverse",
            **self._target(given, vocab_size),
        )
        return jnp.where(self._selected(given, vocab_size), loss, 0.0) if self.select else loss

    @property
    def forget_comparisons(self) -> tuple[Comparison, ...]:
        """Tokens with the start model's alternatives."""
        if self.alternatives == "initial":
            names = {"forward": "forward", "reverse": "anchored", "reverse_full": "reverse"}
            how = Divergence(direction=cast(Any, names[self.direction]))
            aim = self._aim if self.select else self._logit_tau
            return (Comparison(which=FORGET, divergence=how, teacher="stored", logit_tau=aim),)
        if self.select:
            rest = self._not_selected
            return (
                Comparison(which=FORGET, divergence=Divergence(), teacher="stored", tokens=rest),
            )
        return ()

    @property
    def answer_sets(self) -> frozenset[int]:
        """Forget answers, where they are the unit."""
        return frozenset({FORGET}) if self.unit == "sequence" else frozenset()

    def answer_loss(self, stats: TokenStats, state: Any) -> Float[Array, ""]:
        """The mean over forget answers."""
        if self.unit == "token":
            return super().answer_loss(stats, state)
        values = unilogit_sequence_from_log_odds(
            stats.log_odds,
            (stats.sets == FORGET) & (stats.weights > 0),
            stats.segments,
            num_segments=stats.num_segments,
            vocab_size=stats.vocab_size,
        )
        return self.forget_weight * answer_mean(values, stats, FORGET)

    def _target(self, given: Given, vocab_size: int) -> dict[str, Any]:
        """The target's label probability, as the loss takes it."""
        if self.select or self._tau == "uniform":
            return {}
        if not isinstance(self._tau, str):
            return {"tau": self._tau}
        return {"logit_tau": self._logit_tau(given, vocab_size)}

    def _logit_tau(self, given: Given, vocab_size: int) -> Float[Array, "*T"]:
        """Log-odds of tau: of sources that are models, no less than 1/V, no more than at first."""
        floor = -math.log(vocab_size - 1)
        if self._tau == "uniform":
            return jnp.full(given.sets.shape, floor, jnp.float32)
        if not isinstance(self._tau, str):
            return jnp.full(given.sets.shape, math.log(self._tau) - math.log1p(-self._tau))
        if given.logit_tau is None:
            raise ValueError(f"tau={self._tau} needs logit_tau of the forget rows.")
        if self._tau not in _CAPPED:
            return given.logit_tau
        # The cap comes last: no label is ever pushed up.
        return jnp.minimum(jnp.maximum(given.logit_tau, floor), _known(given))

    def _selected(self, given: Given, vocab_size: int) -> Bool[Array, "*T"]:
        """Where p0 > 2 tau."""
        log_tau = -jax.nn.softplus(-self._logit_tau(given, vocab_size))
        return -jax.nn.softplus(-_known(given)) > math.log(2.0) + log_tau

    def _not_selected(self, given: Given, vocab_size: int) -> Bool[Array, "*T"]:
        return ~self._selected(given, vocab_size)

    def _aim(self, given: Given, vocab_size: int) -> Float[Array, "*T"]:
        """1/V where selected, else the start model's own."""
        chosen = self._selected(given, vocab_size)
        return jnp.where(chosen, -math.log(vocab_size - 1), _known(given))


def _known(given: Given) -> Float[Array, "*T"]:
    assert given.ref_log_odds is not None  # the trainer provides it, as `needs` says
    return given.ref_log_odds
