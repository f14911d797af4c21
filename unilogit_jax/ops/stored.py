# SPDX-License-Identifier: Apache-2.0
"""A teacher of which a few tokens per position are stored, all others as one group."""

from dataclasses import dataclass
from typing import no_type_check

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from unilogit_jax.ops.labels import Groups
from unilogit_jax.ops.sweeps import Sums
from unilogit_jax.ops.targets import (
    Divergence,
    Pair,
    js_distance,
    js_logs,
    js_slopes,
    loss_and_slopes,
    slopes_of_alternatives,
)


# Unchecked at run time: JAX rebuilds the record around shapes and shardings too.
@no_type_check
@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class TopK:
    """What is stored of a teacher: log-probabilities of a few tokens, and of all the others.

    The tokens beyond them are one group, so a divergence is a lower bound of the whole one. Made by
    `top_tokens` and `label_log_odds(..., picks=tokens)`.
    """

    tokens: Int[Array, "*T k"]
    """Distinct; the label is not among them, or is negative or ignored where it is."""
    logprobs: Float[Array, "*T k"]
    label_logprob: Float[Array, "*T"]
    tail_logprob: Float[Array, "*T"]
    """Of all that is neither the label nor among the tokens."""


@dataclass(frozen=True)
class OnStored:
    """A divergence as a function of what a sweep finds: label, tokens and the rest."""

    divergence: Divergence
    vocab_size: int

    def __call__(self, sums: Sums, aux: tuple[TopK, Array | None]) -> tuple[Array, Groups]:
        """The loss, and its slopes with respect to the groups."""
        direction = self.divergence.direction
        m, ref_log_odds, logq, logq0 = self._groups(sums, aux[0])
        logit_tau = self.divergence.logit_tau(ref_log_odds, self.vocab_size, aux[1])
        q, q0 = jnp.exp(logq), jnp.exp(logq0)
        some = (q > 0) | (q0 > 0)
        ratio = jnp.where(some, logq - logq0, 0.0)
        mean, middle = self._distance(logq, q, q0, ratio), jnp.zeros_like(m)
        if direction == "reverse":
            middle = mean
        if direction == "js":
            ratio, ref = js_logs(ratio, m[..., None], logit_tau[..., None])
            middle = jnp.sum(q * ratio, axis=-1)
            mean = js_distance(m, logit_tau, middle, jnp.sum(q0 * ref, axis=-1))
        loss, slopes = loss_and_slopes(direction, Pair(m, mean), logit_tau)
        if direction == "js":
            slopes = js_slopes(slopes.distance, m, logit_tau, middle)
        wide = Pair(slopes.log_odds[..., None], slopes.distance[..., None])
        dz = slopes_of_alternatives(direction, wide, q, q0, ratio, middle[..., None])
        dz = jnp.where(logq > -jnp.inf, dz, 0.0)
        return loss, Groups(slopes.log_odds, dz[..., -1], dz[..., :-1])

    def log_odds(self, sums: Sums, aux: tuple[TopK, Array | None]) -> tuple[Array, Array]:
        """Of the label, under model and teacher."""
        return self._groups(sums, aux[0])[:2]

    def _groups(self, sums: Sums, stored: TopK) -> tuple[Array, Array, Array, Array]:
        """Log-odds of the label, and log-probabilities among the alternatives, tail last."""
        assert sums.picks is not None
        own = jnp.concatenate([sums.picks, sums.others[..., None]], axis=-1)
        # A pick that does not count stands at -inf with the model; so it has to with the teacher.
        gone = sums.picks == -jnp.inf
        logprobs = jnp.where(gone, -jnp.inf, stored.logprobs.astype(jnp.float32))
        tail = stored.tail_logprob.astype(jnp.float32)
        ref = jnp.concatenate([logprobs, tail[..., None]], axis=-1)
        totals = [jax.nn.logsumexp(x, axis=-1) for x in (own, ref)]
        m, ref_log_odds = sums.label - totals[0], stored.label_logprob - totals[1]
        return m, ref_log_odds, own - totals[0][..., None], ref - totals[1][..., None]

    def _distance(self, logq: Array, q: Array, q0: Array, ratio: Array) -> Array:
        direction = self.divergence.direction
        if direction == "reverse":
            return jnp.sum(jnp.where(q > 0, q * ratio, 0.0), axis=-1)
        terms = -q0 * logq if direction == "cross_entropy" else -q0 * ratio
        return jnp.sum(jnp.where(q0 > 0, terms, 0.0), axis=-1)
