# SPDX-License-Identifier: Apache-2.0
"""Primal-dual unlearning (arXiv:2506.05314)."""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from unilogit_jax.losses import cross_entropy_from_log_odds
from unilogit_jax.methods._common import Unlearning, set_mean
from unilogit_jax.methods._fields import NonNegative
from unilogit_jax.methods._protocol import Needs, Result
from unilogit_jax.types import FORGET, RETAIN, TokenStats


@dataclass(frozen=True, kw_only=True)
class Pdu(Unlearning):
    """Flattens the logits of forget tokens, as long as the retain loss stays below a bound.

    min L_f  subject to  L_r <= eps,    L_f = mean_t (max_k z_k - mean_k z_k)^2,  L_r = NLL(retain)

    L = forget_weight * L_f + retain_weight * lambda * L_r

    lambda is the constraint's multiplier: after each update lambda <- max(0, lambda + s (L_r -
    eps)), with L_r of the whole batch. The constant -lambda * eps of the Lagrangian, which has no
    gradient, is left out. A model whose head caps its logits is refused.

    Reference: arXiv:2506.05314.

    Note: OpenUnlearning reads the logits one position beside the answer's, and moves the
    multiplier with every microbatch, so further the more there are; here the logits are those that
    predict the answer's tokens, and the multiplier moves once per update.
    """

    name: Literal["pdu"] = "pdu"
    lambda0: NonNegative = 100.0
    """Multiplier before the first update: 100 on TOFU, 50 on MUSE."""
    step_size: NonNegative = 5.0
    """Step s of the multiplier: 5 on TOFU, 1 on MUSE."""
    eps: NonNegative = 0.3
    """Bound of the retain loss: 0.3 on TOFU; 1.5 on MUSE News, 0.1 on Books."""
    warmup: int = 0
    """First updates during which the multiplier stays as it is; 3 epochs' worth on MUSE."""
    retain: Literal["nll"] = "nll"
    """Retain term: the negative log-likelihood, which the constraint is about."""

    @property
    def forget_needs(self) -> Needs:
        """The largest logit less the mean of all."""
        return Needs(extras=frozenset({"logit_gap"}))

    @property
    def set_weights(self) -> dict[int, float]:
        """None that is known before training."""
        return {}

    @property
    def answer_sets(self) -> frozenset[int]:
        """Both sets: the weight of the retain term is a state."""
        return frozenset({FORGET, RETAIN})

    def start(self, key: Array, *, width: int) -> Float[Array, ""]:
        """The multiplier."""
        del key, width
        return jnp.asarray(self.lambda0, jnp.float32)

    def advance(self, state: Any, metrics: dict[str, Float[Array, ""]], step: Any) -> Any:
        """The multiplier after an update, number `step` counted from 0."""
        moved = jnp.maximum(0.0, state + self.step_size * (metrics["retain_nll"] - self.eps))
        return jnp.where(step >= self.warmup, moved, state)

    def answer_loss(self, stats: TokenStats, state: Any) -> Float[Array, ""]:
        """Both terms."""
        return sum(self._terms(stats, state), jnp.zeros(()))

    def _terms(self, stats: TokenStats, state: Any) -> tuple[Array, Array]:
        nll = cross_entropy_from_log_odds(stats.log_odds)
        forget = set_mean(stats.extras["logit_gap"] ** 2, stats, FORGET)
        retain = state * set_mean(nll, stats, RETAIN)
        return self.forget_weight * forget, self.retain_weight * retain

    def __call__(self, stats: TokenStats, state: Any) -> Result:
        """Loss and numbers of one batch, the multiplier among them."""
        forget_loss, retain_loss = self._terms(stats, state)
        nll = jax.lax.stop_gradient(cross_entropy_from_log_odds(stats.log_odds))
        return forget_loss + retain_loss, {
            "loss": forget_loss + retain_loss,
            "forget_loss": forget_loss,
            "retain_loss": retain_loss,
            "forget_nll": set_mean(nll, stats, FORGET),
            "retain_nll": set_mean(nll, stats, RETAIN),
            # A mean over tokens, so that the parts of a batch add up to it; of ones it is exact.
            "dual": state * set_mean(jnp.ones_like(nll), stats, RETAIN),
        }
