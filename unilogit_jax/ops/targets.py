# SPDX-License-Identifier: Apache-2.0
"""Divergences of a model from a teacher whose label probability may be set: one closed form each.

Any target is a pair (tau, q0): the label's probability, and the distribution of the alternatives.
With p the model's label probability, q its alternatives and m, l the log-odds of p and tau, a
divergence is a function of m and of one distance between the alternatives.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args, no_type_check

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from unilogit_jax.errors import check_choice

Direction = Literal["forward", "cross_entropy", "reverse", "anchored", "js"]
_LOG_2 = math.log(2.0)


# Unchecked at run time: it checks its fields itself, with a message for people.
@no_type_check
@dataclass(frozen=True, kw_only=True)
class Divergence:
    """Which divergence of the model p from a target t, and what becomes of the teacher's label.

    forward: KL(t || p).    cross_entropy: -sum_j t_j log p_j, the same gradient.
    reverse: KL(p || t).    js: (KL(t || (t+p)/2) + KL(p || (t+p)/2)) / 2.
    anchored: the reverse divergence of the label against all others, plus KL(q0 || q), the forward
    divergence of the alternatives among themselves.

    Example:
      >>> Divergence(direction="reverse", tau="uniform").beta  # Unilogit with a frozen teacher
      0.0

    Raises:
      ValueError: an unknown direction, both `tau` and `beta`, or a `tau` outside its range.

    """

    direction: Direction = "forward"
    beta: float = 0.0
    """How much the teacher's label logit is lowered (UnDIAL)."""
    tau: float | Literal["uniform"] | None = None
    """The target's label probability, "uniform" is 1/V; None: the teacher's own, after `beta`. The
    teacher's other tokens keep their ratios."""

    def __post_init__(self) -> None:
        check_choice("direction", self.direction, get_args(Direction))
        if self.tau is None:
            return
        if self.beta != 0.0:
            raise ValueError(f"beta={self.beta} lowers what tau={self.tau} sets: give one of them")
        if isinstance(self.tau, str):
            if self.tau != "uniform":
                raise ValueError(f"tau={self.tau!r} is no number, 'uniform' or None")
        elif not 0 < self.tau < 1:
            raise ValueError(f"tau={self.tau} is outside 0 < tau < 1")

    def logit_tau(
        self, ref_log_odds: Float[Array, "*T"], vocab_size: int, given: Float[Array, "*T"] | None
    ) -> Float[Array, "*T"]:
        """Log-odds of the target's label probability.

        Args:
          ref_log_odds: those of the teacher.
          vocab_size: V.
          given: log-odds of each token's own, before all else.

        Example:
          >>> Divergence(beta=3.0).logit_tau(jnp.array([5.0]), 4, None)
          Array([2.], dtype=float32)

        """
        if given is not None:
            return given
        if self.tau is None:
            return ref_log_odds - self.beta
        if isinstance(self.tau, str):
            return jnp.full_like(ref_log_odds, -math.log(vocab_size - 1))
        return jnp.full_like(ref_log_odds, math.log(self.tau) - math.log1p(-self.tau))


class Pair(NamedTuple):
    """What a divergence depends on, token by token; or its slopes with respect to these."""

    log_odds: Float[Array, "*T"]
    """m, of the label under the model."""
    distance: Float[Array, "*T"]
    """Between the alternatives of teacher and model; for "js" the divergence itself."""


def loss_and_slopes(
    direction: Direction, pair: Pair, logit_tau: Float[Array, "*T"]
) -> tuple[Float[Array, "*T"], Pair]:
    """The divergence and its slopes, without a difference that loses digits.

    Example:
      >>> zero = jnp.zeros(1)
      >>> loss, slopes = loss_and_slopes("forward", Pair(zero, zero), zero)
      >>> loss.item(), slopes.log_odds.item(), slopes.distance.item()
      (0.0, 0.0, 0.5)

    """
    m, distance = pair
    if direction == "js":
        return distance, Pair(jnp.zeros_like(m), jnp.ones_like(m))
    p, not_p = jax.nn.sigmoid(m), jax.nn.sigmoid(-m)
    tau, not_tau = jax.nn.sigmoid(logit_tau), jax.nn.sigmoid(-logit_tau)
    log_p, log_not_p = -jax.nn.softplus(-m), -jax.nn.softplus(m)
    log_tau, log_not_tau = -jax.nn.softplus(-logit_tau), -jax.nn.softplus(logit_tau)
    if direction in ("forward", "cross_entropy"):
        # p - tau from the smaller side: near 1 both are rounded.
        over = jnp.where(m > 0, not_tau - not_p, p - tau)
        if direction == "cross_entropy":
            loss = -tau * log_p + not_tau * (distance - log_not_p)
        else:
            loss = tau * (log_tau - log_p) + not_tau * (log_not_tau - log_not_p + distance)
        return loss, Pair(over, not_tau)
    binary = p * (log_p - log_tau) + not_p * (log_not_p - log_not_tau)
    if direction == "anchored":
        return binary + distance, Pair(p * not_p * (m - logit_tau), jnp.ones_like(m))
    slope = p * not_p * (m - logit_tau - distance)
    return binary + not_p * distance, Pair(slope, not_p)


def slopes_of_alternatives(
    direction: Direction,
    slopes: Pair,
    q: Float[Array, "*N V"],
    q0: Float[Array, "*N V"],
    ratio: Float[Array, "*N V"],
    middle: Float[Array, "*N 1"],
) -> Float[Array, "*N V"]:
    """dL/dz of the alternatives, from the slopes with respect to m and to the distance.

    The label's is the slope with respect to m. For "js" both slopes are those of `js_slopes`.

    Args:
      direction: the divergence's.
      slopes: of the loss, shapes [*N 1].
      q: the model's distribution over alternatives.
      q0: the teacher's.
      ratio: log(q / q0); for "js" log(p / mean of p and t).
      middle: the mean of `ratio` under q.

    """
    if direction in ("reverse", "js"):
        return q * (slopes.distance * (ratio - middle) - slopes.log_odds)
    return slopes.distance * (q - q0) - slopes.log_odds * q


def js_logs(
    ratio: Float[Array, "*N V"], m: Float[Array, "*N 1"], logit_tau: Float[Array, "*N 1"]
) -> tuple[Float[Array, "*N V"], Float[Array, "*N V"]]:
    """log(p/M) and log(t/M) of alternatives with `ratio` log(q/q0), M the mean of p and t."""
    gap = ratio + jax.nn.softplus(logit_tau) - jax.nn.softplus(m)
    return _LOG_2 - jax.nn.softplus(-gap), _LOG_2 - jax.nn.softplus(gap)


def js_label_logs(
    m: Float[Array, "*T"], logit_tau: Float[Array, "*T"]
) -> tuple[Float[Array, "*T"], Float[Array, "*T"]]:
    """The same of the label."""
    gap = jax.nn.softplus(-logit_tau) - jax.nn.softplus(-m)
    return _LOG_2 - jax.nn.softplus(-gap), _LOG_2 - jax.nn.softplus(gap)


def js_distance(
    m: Float[Array, "*T"],
    logit_tau: Float[Array, "*T"],
    middle: Float[Array, "*T"],
    ref_middle: Float[Array, "*T"],
) -> Float[Array, "*T"]:
    """The Jensen-Shannon divergence from the means of `js_logs` under q and q0."""
    own, ref = js_label_logs(m, logit_tau)
    model = jax.nn.sigmoid(m) * own + jax.nn.sigmoid(-m) * middle
    target = jax.nn.sigmoid(logit_tau) * ref + jax.nn.sigmoid(-logit_tau) * ref_middle
    return 0.5 * (model + target)


def js_slopes(
    slope: Float[Array, "*T"],
    m: Float[Array, "*T"],
    logit_tau: Float[Array, "*T"],
    middle: Float[Array, "*T"],
) -> Pair:
    """Slopes for label and alternatives of `slope` times the Jensen-Shannon divergence."""
    not_p = jax.nn.sigmoid(-m)
    half = 0.5 * slope * not_p
    label = half * jax.nn.sigmoid(m) * (js_label_logs(m, logit_tau)[0] - middle)
    return Pair(label, half)
