# SPDX-License-Identifier: Apache-2.0
"""Representation misdirection for unlearning (Li et al. 2024, arXiv:2403.03218)."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from unilogit_jax.losses import rmu
from unilogit_jax.methods._common import Unlearning, set_mean
from unilogit_jax.methods._fields import Positive
from unilogit_jax.methods._protocol import Comparison, Needs, Result
from unilogit_jax.types import FORGET, RETAIN, Batch, TokenStats


@dataclass(frozen=True, kw_only=True)
class Rmu(Unlearning):
    """Steers one layer's hidden states of forget tokens to a random direction, holds the others.

    L = mean_t (1/D) |h_t - c u|^2  +  retain_weight * mean_t (1/D) |h_t - h_ref,t|^2

    u = r/|r| with r uniform in [0, 1)^D, drawn from the run's seed and kept in the checkpoint. The
    forward pass ends at the layer. Train only what lies at or below it; published is `trainable:
    [layers.5-7.mlp.down_proj]` with layer 7. Weights above it have no gradient, but, if trained,
    optimizer state and weight decay.

    Reference: arXiv:2403.03218, section 4; adaptive: arXiv:2408.06223.

    Note: OpenUnlearning trains all weights by default, has c = 2 in its configuration and
    divides sums of answers by lengths of other answers too (`compat`).
    """

    name: Literal["rmu"] = "rmu"
    layer: int = 7
    """The layer whose output is steered, counted from 0."""
    c: Positive = 6.5
    """Length of the vector to steer to. It has to fit the model: compare with `forget_norm` of the
    log. 6.5 is for Zephyr-7B; 300 for Mixtral-8x7B and Yi-34B."""
    adaptive: bool = False
    """Adaptive RMU: c is a multiple of the length of each token's hidden state in the start model;
    5 is published."""
    retain: Literal["hidden"] = "hidden"  # pyright: ignore[reportIncompatibleVariableOverride]
    """Retain term: the distance from the start model's hidden states. Published weights are 1200
    for Zephyr-7B, 1600 for Mixtral-8x7B, 350 for Yi-34B."""
    compat: Literal["none", "open_unlearning"] = "none"
    """open_unlearning: means over tokens as that library takes them, with the sums of all answers
    divided by the lengths of all answers: mean_i(sum_i) * mean_j(1/n_j)."""

    @property
    def needs(self) -> Needs:
        """The start model's hidden states on retain rows; on forget rows too, if adaptive."""
        sets = {RETAIN, FORGET} if self.adaptive else {RETAIN}
        return Needs(layer=self.layer, ref_hidden=frozenset(sets))

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """None: no distribution is looked at."""
        return ()

    def start(self, key: Array, *, width: int) -> Float[Array, " D"]:
        """The direction u."""
        drawn = jax.random.uniform(key, (width,))
        return drawn / jnp.linalg.norm(drawn)

    def weigh(self, batch: Batch) -> Batch:
        """For `compat` each supervised token by the mean of 1/n of its set's answers."""
        if self.compat == "none":
            return batch
        weights = jnp.zeros_like(batch.weights)
        for which in (FORGET, RETAIN):
            own = (batch.sets == which) & (batch.weights > 0)
            ids = batch.segments.ravel()
            ones = own.astype(jnp.float32).ravel()
            lengths = jax.ops.segment_sum(ones, ids, batch.num_segments)
            inverse = jnp.where(lengths > 0, 1.0 / jnp.maximum(lengths, 1.0), 0.0)
            mean = jnp.sum(inverse) / jnp.maximum(jnp.sum(lengths > 0), 1)
            weights = jnp.where(own, mean, weights)
        return replace(batch, weights=weights)

    def __call__(self, stats: TokenStats, state: Any) -> Result:
        """Loss and numbers of one batch; there are no likelihoods, the forward pass has no head."""
        assert stats.hidden is not None
        assert stats.ref_hidden is not None  # the trainer provides them, as `needs` says
        on = stats.weights[..., None] > 0  # whatever other positions hold, their slope is 0
        hidden, ref = (
            jnp.where(on, x.astype(jnp.float32), 0.0) for x in (stats.hidden, stats.ref_hidden)
        )
        target = self.c * state
        if self.adaptive:
            target = jnp.multiply.outer(jnp.linalg.norm(ref, axis=-1), target)
        forget_loss = self.forget_weight * self._mean(rmu(hidden, target), stats, FORGET)
        held = self._mean(rmu(hidden, ref), stats, RETAIN)
        retain_loss = self.retain_weight * held
        length = jnp.linalg.norm(jax.lax.stop_gradient(hidden), axis=-1)
        return forget_loss + retain_loss, {
            "loss": forget_loss + retain_loss,
            "forget_loss": forget_loss,
            "retain_loss": retain_loss,
            "forget_norm": set_mean(length, stats, FORGET),
        }

    def _mean(self, values: Float[Array, "*T"], stats: TokenStats, which: int) -> Array:
        """The mean over the tokens of a set; its divisor is that of the whole batch."""
        if self.compat == "none":
            return set_mean(values, stats, which)
        assert stats.set_answers is not None  # of the whole batch, from the trainer
        own = (stats.sets == which) & (stats.weights > 0)
        total = jnp.sum(jnp.where(own, values * stats.weights, 0.0))
        return total / jnp.maximum(stats.set_answers[which], 1.0)
