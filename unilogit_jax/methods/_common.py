# SPDX-License-Identifier: Apache-2.0
"""What all methods share: the protocol, weighted means over a set, and the retain term."""

from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from unilogit_jax.losses import cross_entropy_from_log_odds
from unilogit_jax.ops import Divergence
from unilogit_jax.types import FORGET, RETAIN, TokenStats

PYDANTIC: dict[str, Any] = {
    "extra": "forbid",
    "use_attribute_docstrings": True,
    "allow_inf_nan": False,
}
"""How a configuration file reads a method's fields; plain data, pydantic is not imported."""

Result = tuple[Float[Array, ""], Any, dict[str, Float[Array, ""]]]
"""Loss, new method state, metrics."""


@runtime_checkable
class Method(Protocol):
    """A method: a frozen dataclass whose fields are its hyper-parameters.

    `needs` names what the trainer has to provide beyond the label's log-odds: "ref_log_odds" (one
    number per forget token, cached once) or "ref_hidden" (the reference's hidden states, cached
    once; the method is then a `DistributionMethod`).
    """

    needs: ClassVar[frozenset[str]]

    def __call__(self, stats: TokenStats, state: Any) -> Result:
        """The loss of one batch, the next method state, and numbers for the log.

        Loss and numbers of the parts of a batch have to add up to those of the whole, as those do
        that are made with `set_mean` and `answer_mean`.
        """
        ...


@runtime_checkable
class SeparableMethod(Method, Protocol):
    """A method whose loss is a weighted sum of set means of a loss of each token's log-odds alone.

    Its gradients are then made while the logits are at hand, which saves a matmul.
    """

    @property
    def set_weights(self) -> dict[int, float]:
        """Set -> weight of its mean; other sets do not count."""
        ...

    def token_loss(
        self, log_odds: Float[Array, "*T"], sets: Int[Array, "*T"], *, vocab_size: int
    ) -> Float[Array, "*T"]:
        """The loss of every token; those outside the sets do not matter."""
        ...


@runtime_checkable
class DistributionMethod(SeparableMethod, Protocol):
    """A method that compares the tokens of some sets with a whole teacher distribution.

    Those tokens have no `token_loss`; they come to `__call__` as `stats.divergence`.
    """

    @property
    def divergences(self) -> dict[int, Divergence]:
        """Set -> how its tokens are compared."""
        ...


def forget_or_nll(
    forget_loss: Float[Array, "*T"], log_odds: Float[Array, "*T"], sets: Int[Array, "*T"]
) -> Float[Array, "*T"]:
    """The given loss on forget tokens, the negative log-likelihood on all others."""
    return jnp.where(sets == FORGET, forget_loss, cross_entropy_from_log_odds(log_odds))


def set_mean(values: Float[Array, "*T"], stats: TokenStats, which: int) -> Float[Array, ""]:
    """Weighted mean of per-token values over the supervised tokens of one set; 0 if it has none.

    The divisor is that of the whole (global) batch, so the number does not depend on mesh or
    padding, and the means of the parts of a batch add up to that of all.
    """
    weights = jnp.where(stats.sets == which, stats.weights, 0.0)
    total = jnp.sum(weights) if stats.set_tokens is None else stats.set_tokens[which]
    mean = jnp.sum(jnp.where(weights > 0, values * weights, 0.0)) / jnp.maximum(total, 1e-9)
    return jnp.where(total > 0, mean, 0.0)


def answer_mean(values: Float[Array, " S"], stats: TokenStats, which: int) -> Float[Array, ""]:
    """Mean of per-segment values over the answers of one set; 0 if it has none.

    An answer is a segment with supervised tokens of the set; the others are left out. The divisor
    is that of the whole batch.
    """
    mask = (stats.sets == which) & (stats.weights > 0)
    ids, ones = stats.segments.ravel(), mask.astype(jnp.float32).ravel()
    present = jax.ops.segment_sum(ones, ids, stats.num_segments) > 0
    local = jnp.sum(present.astype(jnp.float32))
    total = local if stats.set_answers is None else stats.set_answers[which]
    return jnp.sum(jnp.where(present, values, 0.0)) / jnp.maximum(total, 1.0)


def with_retain(
    forget_loss: Float[Array, ""], stats: TokenStats, state: Any, retain_weight: float
) -> Result:
    """`forget_loss + retain_weight * NLL(retain)`, with the numbers every method logs."""
    nll = cross_entropy_from_log_odds(stats.log_odds)
    retain_nll = set_mean(nll, stats, RETAIN)
    loss = forget_loss + retain_weight * retain_nll
    metrics = {
        "loss": loss,
        "forget_loss": forget_loss,
        "forget_nll": set_mean(nll, stats, FORGET),
        "retain_nll": retain_nll,
    }
    return loss, state, metrics
