# SPDX-License-Identifier: Apache-2.0
"""What the methods share: means over a set, sums over answers, the retain term, a base class."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from unilogit_jax.losses import cross_entropy_from_log_odds
from unilogit_jax.methods._fields import Weight
from unilogit_jax.methods._protocol import Comparison, Given, Needs, Result
from unilogit_jax.ops import Divergence
from unilogit_jax.types import ALTERNATE, FORGET, RETAIN, Batch, TokenStats

PYDANTIC: dict[str, Any] = {
    "extra": "forbid",
    "use_attribute_docstrings": True,
    "allow_inf_nan": False,
}
"""How a configuration file reads a method's fields; plain data, pydantic is not imported."""


@dataclass(frozen=True, kw_only=True)
class Unlearning:
    """A method of the form forget_weight * L_forget + retain_weight * L_retain.

    A subclass says what L_forget is: `forget_token_loss`, `forget_comparisons` or `answer_loss`
    with `answer_sets`; the retain term is the same for all.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = PYDANTIC
    forget_set: ClassVar[int] = FORGET
    """The tokens of `forget_token_loss`: of forget answers, or ALTERNATE for other answers."""
    pairs: ClassVar[bool] = False
    """Whether the loss joins two answers to one question, which have to be in one part of a
    batch then."""
    answers_apart: ClassVar[bool] = False
    """Whether `answer_loss` is a sum over answers, each by itself and without a state: its gradient
    is made while the logits of an answer are at hand then, which saves a matmul."""
    sharp: ClassVar[bool] = False
    """Whether the forget gradient is taken a step of length `rho` uphill, `rho` being a field: at
    the weights nearby where the forget loss is largest. An update costs three then."""

    name: str = ""
    label: str = ""
    """What its column, folder and stage are called; "" takes the name."""
    forget_weight: Weight = 1.0
    """Weight of the forget loss (gamma in part of the literature)."""
    retain_weight: Weight = 1.0
    """Weight of the retain term; 0 leaves it out."""
    retain: Literal["nll", "kl", "kl_open_unlearning", "js"] = "nll"
    """Retain term: negative log-likelihood, or KL(start model || model); kl_open_unlearning is its
    mean over all positions, the question's too; js is the Jensen-Shannon divergence of both."""

    @property
    def needs(self) -> Needs:
        """What the trainer has to provide."""
        needs = self.forget_needs
        if self.retain == "nll":
            return needs
        return needs._replace(ref_hidden=needs.ref_hidden | {RETAIN})

    @property
    def forget_needs(self) -> Needs:
        """The same for the forget loss alone."""
        return Needs()

    @property
    def set_weights(self) -> dict[int, float]:
        """Weights of the means over tokens."""
        weights = {RETAIN: self.retain_weight}
        return weights if self.answer_sets else {self.forget_set: self.forget_weight} | weights

    @property
    def token_sets(self) -> frozenset[int]:
        """Those that are not compared."""
        return frozenset(self.set_weights) - {how.which for how in self.comparisons}

    def token_loss(
        self, log_odds: Float[Array, "*T"], given: Given, *, vocab_size: int
    ) -> Float[Array, "*T"]:
        """The forget loss on its set, the negative log-likelihood on all others."""
        nll = cross_entropy_from_log_odds(log_odds)
        if self.answer_sets or self.forget_set not in self.token_sets:
            return nll
        own = self.forget_token_loss(log_odds, given, vocab_size=vocab_size)
        return jnp.where(given.sets == self.forget_set, own, nll)

    def forget_token_loss(
        self, log_odds: Float[Array, "*T"], given: Given, *, vocab_size: int
    ) -> Float[Array, "*T"]:
        """The loss of each forget token, where it is a function of the log-odds alone."""
        raise NotImplementedError(f"{type(self).__name__} has no loss of single tokens")

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Of the forget loss, and of the retain term where it is a divergence."""
        if self.retain == "nll":
            return self.forget_comparisons
        how = Divergence(direction="js" if self.retain == "js" else "forward")
        everywhere = self.retain == "kl_open_unlearning"
        term = Comparison(which=RETAIN, divergence=how, everywhere=everywhere)
        return (*self.forget_comparisons, term)

    @property
    def forget_comparisons(self) -> tuple[Comparison, ...]:
        """Where the forget loss is a divergence from a teacher."""
        return ()

    @property
    def answer_sets(self) -> frozenset[int]:
        """Where the forget loss is one of whole answers: the sets that it reads."""
        return frozenset()

    def answer_loss(self, stats: TokenStats, state: Any) -> Float[Array, ""]:
        """Such a forget loss, times its weight."""
        del state
        return jnp.zeros((), stats.log_odds.dtype)

    def terms(self) -> tuple["Unlearning", "Unlearning"]:
        """The forget term alone and the retain term alone, for a `sharp` method.

        A loss of more than the two has to say to which the others belong.
        """
        return replace(self, retain_weight=0.0), replace(self, forget_weight=0.0)

    def weigh(self, batch: Batch) -> Batch:
        """The batch as it is."""
        return batch

    def start(self, key: Array, *, width: int) -> Any:
        """No state."""
        del key, width
        return ()

    def advance(self, state: Any, metrics: dict[str, Float[Array, ""]], step: Any) -> Any:
        """The state as it is."""
        del metrics, step
        return state

    def __call__(self, stats: TokenStats, state: Any) -> Result:
        """Loss and numbers of one batch, from the statistics of all its tokens."""
        given = Given(stats.sets, stats.ref_log_odds, stats.logit_tau)
        values = self.token_loss(stats.log_odds, given, vocab_size=stats.vocab_size)
        alone = self.token_sets

        def mean(which: int) -> Array:
            own = set_mean(values, stats, which) if which in alone else jnp.zeros(())
            return own + stats.compared.get(which, jnp.zeros(()))

        terms = {which: weight * mean(which) for which, weight in self.set_weights.items()}
        forget_loss = sum((x for which, x in terms.items() if which != RETAIN), jnp.zeros(()))
        forget_loss = forget_loss + self.answer_loss(stats, state)
        nll = cross_entropy_from_log_odds(stats.log_odds)
        numbers = {
            "loss": forget_loss + terms[RETAIN],
            "forget_loss": forget_loss,
            "retain_loss": terms[RETAIN],
            "retain_nll": set_mean(nll, stats, RETAIN),
        }
        if self.needs.forget:
            numbers["forget_nll"] = set_mean(nll, stats, FORGET)
        if self.needs.alternates:
            numbers["alternate_nll"] = set_mean(nll, stats, ALTERNATE)
        return numbers["loss"], numbers


def set_mean(values: Float[Array, "*T"], stats: TokenStats, which: int) -> Float[Array, ""]:
    """Weighted mean of per-token values over the supervised tokens of one set; 0 if it has none.

    The divisor is that of the whole (global) batch, so the number does not depend on mesh or
    padding, and the means of the parts of a batch add up to that of all.

    Example:
      >>> stats = TokenStats(
      ...     log_odds=jnp.zeros(3),
      ...     sets=jnp.array([FORGET, FORGET, RETAIN]),
      ...     segments=jnp.array([1, 1, 2]),
      ...     weights=jnp.ones(3),
      ...     num_segments=3,
      ... )
      >>> set_mean(jnp.array([1.0, 3.0, 9.0]), stats, FORGET).item()
      2.0

    """
    weights = jnp.where(stats.sets == which, stats.weights, 0.0)
    total = jnp.sum(weights) if stats.set_tokens is None else stats.set_tokens[which]
    mean = jnp.sum(jnp.where(weights > 0, values * weights, 0.0)) / jnp.maximum(total, 1e-9)
    return jnp.where(total > 0, mean, 0.0)


def answer_sums(values: Float[Array, "*T"], stats: TokenStats, which: int) -> Float[Array, " S"]:
    """Sums of per-token values over the supervised tokens of each answer of one set, by segment.

    Example:
      >>> stats = TokenStats(
      ...     log_odds=jnp.zeros(3),
      ...     sets=jnp.array([FORGET, FORGET, RETAIN]),
      ...     segments=jnp.array([1, 1, 2]),
      ...     weights=jnp.ones(3),
      ...     num_segments=3,
      ... )
      >>> answer_sums(jnp.array([1.0, 3.0, 9.0]), stats, FORGET).tolist()
      [0.0, 4.0, 0.0]

    """
    mask = (stats.sets == which) & (stats.weights > 0)
    picked = jnp.where(mask, values, 0.0).ravel()
    return jax.ops.segment_sum(picked, stats.segments.ravel(), stats.num_segments)


def answer_lengths(stats: TokenStats, which: int) -> Float[Array, " S"]:
    """Number of supervised tokens of each answer of one set, by segment; 0 for all others."""
    return answer_sums(jnp.ones_like(stats.log_odds), stats, which)


def of_partner(values: Float[Array, " S"], stats: TokenStats) -> Float[Array, " S"]:
    """For each segment the value of the one that answers the same question in another set."""
    assert stats.partners is not None  # rows with alternates have them
    partners = jax.ops.segment_max(
        stats.partners.ravel(), stats.segments.ravel(), stats.num_segments
    )
    return values[jnp.clip(partners, 0)]


def answer_mean(values: Float[Array, " S"], stats: TokenStats, which: int) -> Float[Array, ""]:
    """Mean of per-segment values over the answers of one set; 0 if it has none.

    An answer is a segment with supervised tokens of the set; the others are left out. The divisor
    is that of the whole batch.

    Example:
      >>> stats = TokenStats(
      ...     log_odds=jnp.zeros(3),
      ...     sets=jnp.array([FORGET, FORGET, RETAIN]),
      ...     segments=jnp.array([1, 1, 2]),
      ...     weights=jnp.ones(3),
      ...     num_segments=3,
      ... )
      >>> answer_mean(jnp.array([0.0, 4.0, 9.0]), stats, FORGET).item()
      4.0

    """
    present = answer_lengths(stats, which) > 0
    local = jnp.sum(present.astype(jnp.float32))
    total = local if stats.set_answers is None else stats.set_answers[which]
    return jnp.sum(jnp.where(present, values, 0.0)) / jnp.maximum(total, 1.0)


def with_retain(forget_loss: Float[Array, ""], stats: TokenStats, retain_weight: float) -> Result:
    """`forget_loss + retain_weight * NLL(retain)`: for methods of your own that are plain calls."""
    nll = cross_entropy_from_log_odds(stats.log_odds)
    retain_nll = set_mean(nll, stats, RETAIN)
    loss = forget_loss + retain_weight * retain_nll
    return loss, {
        "loss": loss,
        "forget_loss": forget_loss,
        "forget_nll": set_mean(nll, stats, FORGET),
        "retain_nll": retain_nll,
    }
