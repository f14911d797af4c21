# SPDX-License-Identifier: Apache-2.0
"""Unilogit: self-distillation towards a uniform label (Vasilev et al. 2025, arXiv:2505.06027)."""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from unilogit_jax.errors import check_choice
from unilogit_jax.losses._common import per_token, supervised
from unilogit_jax.ops import label_columns, with_slopes


def unilogit(
    logits: Float[Array, "*T V"],
    labels: Int[Array, "*T"],
    mask: Shaped[Array, "*T"] | None = None,
    *,
    direction: Literal["reverse", "forward"] = "reverse",
    tau: float | Float[Array, "*T"] | None = None,
    logit_tau: Float[Array, "*T"] | None = None,
) -> Float[Array, "*T"]:
    """Divergence of the model from itself with the label's probability set to 1/V.

    KL(p || t),    p = softmax(logits),    t_y = 1/V,    t_j = p_j (1 - 1/V) / (1 - p_y)

    The target is made of the current model and needs no reference. Whether it is held fixed makes
    no difference to the gradient, w (e_y - q) with q the alternatives' distribution and
    w = p_y (1 - p_y) (m + log(V-1)), where m is the label's log-odds.

    Args:
      logits: scores of every vocabulary entry, any float dtype; computed in float32.
      labels: index of the observed token; positions outside 0..V-1 (such as -100) are ignored.
      mask: nonzero where a position counts; None counts all.
      direction: "reverse" is KL(p || t), the paper's; "forward" is KL(t || p), whose slope p - 1/V
        does not vanish on memorised tokens.
      tau: the target's label probability, a constant or one per token, through which no gradient
        flows; None is the paper's 1/V. 0 is possible in the forward direction only, where the loss
        becomes unlikelihood, -log(1 - p_y). The values of an array are not checked.
      logit_tau: log(tau / (1 - tau)) of each token in place of `tau`: no digit is lost where tau is
        close to 1.

    Returns:
      One value per token, float32 [*T], 0 without gradient at positions that do not count; the
      caller averages over tokens.

    Raises:
      ValueError: if V < 2, the direction is unknown, `tau` is outside its range, or `logit_tau` is
        given too.

    Example:
      >>> z = jnp.log(jnp.array([[0.25, 0.25, 0.25, 0.25], [0.7, 0.1, 0.1, 0.1]]))
      >>> loss = unilogit(z, jnp.array([0, 0]))
      >>> print(f"{loss[0]:.4f} {loss[1]:.4f}")  # the first label has probability 1/4 already
      0.0000 0.4458

    Reference: arXiv:2505.06027.
    Note: V counts every logit column. If a head has padding columns (logit -inf), give
      `tau=1/V` with the V of the tokenizer.
    """
    valid = supervised(labels, mask, logits.shape[-1])
    if logit_tau is not None:
        logit_tau = jnp.where(valid, logit_tau, 0.0)
    target = _target(tau_where(valid, tau), logits.shape[-1], direction, logit_tau)
    return per_token(lambda m: _divergence(m, target, direction), logits, labels, mask)


def unilogit_from_log_odds(
    log_odds: Float[Array, "*T"],
    *,
    vocab_size: int,
    direction: Literal["reverse", "forward"] = "reverse",
    tau: float | Float[Array, "*T"] | None = None,
    logit_tau: Float[Array, "*T"] | None = None,
) -> Float[Array, "*T"]:
    """Unilogit from the label's log-odds: both distributions are binary ones.

    reverse: p (-log tau - softplus(-m)) + (1-p) (-log(1-tau) - softplus(m)),
             dL/dm = p (1-p) (m - logit tau)
    forward: tau (log tau + softplus(-m)) + (1-tau) (log(1-tau) + softplus(m)),
             dL/dm = p - tau

    Args:
      log_odds: m = z_y - logsumexp_{j != y} z_j, so that p = sigmoid(m).
      vocab_size: V, the number of logit columns behind `log_odds`.
      direction: "reverse" is KL(p || t), the paper's; "forward" is KL(t || p).
      tau: the target's label probability, a constant or one per token; None is 1/V.
      logit_tau: log(tau / (1 - tau)) of each token in place of `tau`.

    Returns:
      One value per token, float32 [*T]. In the reverse direction m = +inf gives -log tau and
      m = -inf gives -log(1-tau), both without gradient; the forward direction is infinite there.

    Raises:
      ValueError: if `vocab_size` < 2, the direction is unknown, `tau` is outside its range, or
        `logit_tau` is given too.

    Example:
      >>> loss = unilogit_from_log_odds(jnp.array([0.0, jnp.inf]), vocab_size=4)
      >>> print(f"{loss[0]:.4f} {loss[1]:.4f}")  # a certain label costs log 4
      0.1438 1.3863

    Reference: arXiv:2505.06027.
    """
    target = _target(tau, vocab_size, direction, logit_tau)
    return _divergence(log_odds.astype(jnp.float32), target, direction)


def unilogit_target(
    logits: Float[Array, "*T V"],
    labels: Int[Array, "*T"],
    *,
    tau: float | Float[Array, "*T"] | None = None,
) -> Float[Array, "*T V"]:
    """The soft labels of Unilogit, to look at; the losses never build them.

    t_y = 1/V,    t_j = p_j (1 - 1/V) / (1 - p_y)

    Args:
      logits: scores of every vocabulary entry, any float dtype.
      labels: index of the observed token; a row whose label is outside 0..V-1 (such as -100) is
        returned as plain softmax.
      tau: the target's label probability, a constant or one per token; None is 1/V.

    Returns:
      Probabilities, float32 [*T V], detached. A row whose alternatives are all -inf has no target
      and gives NaN.

    Raises:
      ValueError: if V < 2 or `tau` is outside its range.

    Example:
      >>> z = jnp.log(jnp.array([[0.8, 0.15, 0.05]]))
      >>> print(" ".join(f"{t:.4f}" for t in unilogit_target(z, jnp.array([0]))[0]))
      0.3333 0.5000 0.1667

    Reference: arXiv:2505.06027.
    """
    vocab_size = logits.shape[-1]
    share = _target(tau, vocab_size, "forward").tau
    if isinstance(share, jax.Array):
        share = share[..., None]
    at_label = label_columns(labels, vocab_size)
    z = jax.lax.stop_gradient(logits.astype(jnp.float32))
    others = jax.nn.softmax(jnp.where(at_label, -jnp.inf, z), axis=-1)
    target = jnp.where(at_label, share, others * (1.0 - share))
    return jnp.where(supervised(labels, None, vocab_size)[..., None], target, others)


class _Target(NamedTuple):
    """A label probability tau and its logarithms: Python doubles, or arrays [*T]."""

    tau: float | Array
    not_tau: float | Array
    """1 - tau."""
    log_tau: float | Array
    log1m_tau: float | Array
    logit_tau: float | Array
    neg_entropy: float | Array
    """tau log tau + (1 - tau) log(1 - tau)."""


def tau_where(
    valid: Bool[Array, "*T"], tau: float | Float[Array, "*T"] | Float[np.ndarray, "*T"] | None
) -> float | Float[Array, "*T"] | None:
    """A `tau` that is harmless at ignored positions, whatever stands there.

    The usual 0 would make 0 * inf in the gradient. A constant, which is checked, stays as it is.
    """
    return jnp.where(valid, tau, 0.5) if isinstance(tau, jax.Array | np.ndarray) else tau


def _target(
    tau: float | Float[Array, "*T"] | Float[np.ndarray, "*T"] | None,
    vocab_size: int,
    direction: str,
    logit_tau: Float[Array, "*T"] | None = None,
) -> _Target:
    if vocab_size < 2:
        raise ValueError(f"Unilogit needs a vocabulary of at least 2 tokens, got {vocab_size}")
    check_choice("direction", direction, ("reverse", "forward"))
    if logit_tau is not None:
        if tau is not None:
            raise ValueError("tau and logit_tau say the same thing: give one of them")
        return _logit_target(logit_tau)
    if isinstance(tau, jax.Array | np.ndarray):
        return _array_target(jnp.asarray(tau))
    if tau is None:
        # Not log1p(-u) - log(u) of a rounded 1/V: m + log(V-1) has to cross 0 at the right place.
        tau, log_tau, logit = 1 / vocab_size, -math.log(vocab_size), -math.log(vocab_size - 1)
    else:
        tau = float(tau)
        _check_range(tau, direction)
        log_tau = math.log(tau) if tau > 0 else -math.inf
        logit = log_tau - math.log1p(-tau)
    log1m_tau = math.log1p(-tau)
    neg_entropy = (tau * log_tau if tau > 0 else 0.0) + (1 - tau) * log1m_tau
    return _Target(tau, 1 - tau, log_tau, log1m_tau, logit, neg_entropy)


def _array_target(tau: Float[Array, "*T"]) -> _Target:
    tau = jax.lax.stop_gradient(tau.astype(jnp.float32))
    log_tau, log1m_tau = jnp.log(tau), jnp.log1p(-tau)
    neg_entropy = jnp.where(tau > 0, tau * log_tau, 0.0) + (1.0 - tau) * log1m_tau
    return _Target(tau, 1.0 - tau, log_tau, log1m_tau, log_tau - log1m_tau, neg_entropy)


def _logit_target(logit_tau: Float[Array, "*T"]) -> _Target:
    logit_tau = jax.lax.stop_gradient(logit_tau.astype(jnp.float32))
    tau, not_tau = jax.nn.sigmoid(logit_tau), jax.nn.sigmoid(-logit_tau)
    log_tau, log1m_tau = -jax.nn.softplus(-logit_tau), -jax.nn.softplus(logit_tau)
    neg_entropy = tau * log_tau + not_tau * log1m_tau
    return _Target(tau, not_tau, log_tau, log1m_tau, logit_tau, neg_entropy)


def _check_range(tau: float, direction: str) -> None:
    if direction == "reverse" and not 0 < tau < 1:
        raise ValueError(
            f"tau={tau} is outside 0 < tau < 1: the reverse divergence is infinite at 0 and 1; "
            "use direction='forward' for tau=0"
        )
    if not 0 <= tau < 1:
        raise ValueError(f"tau={tau} is outside 0 <= tau < 1; it is a probability below 1")


def _divergence(m: Float[Array, "*T"], target: _Target, direction: str) -> Float[Array, "*T"]:
    """The closed form. `where` is there for 0 * inf at m = +-inf and at tau = 0."""
    p, not_p = jax.nn.sigmoid(m), jax.nn.sigmoid(-m)
    log_p, log_not_p = -jax.nn.softplus(-m), -jax.nn.softplus(m)
    if direction == "forward":
        cross = jnp.where(target.tau > 0, target.tau * log_p, 0.0)
        cross = cross + target.not_tau * log_not_p
        # p - tau from the smaller side: near 1 both are rounded.
        slope = jnp.where(m > 0, target.not_tau - not_p, p - target.tau)
        return with_slopes(m, target.neg_entropy - cross, slope)
    label = jnp.where(m == -jnp.inf, 0.0, p * (log_p - target.log_tau))
    others = jnp.where(m == jnp.inf, 0.0, not_p * (log_not_p - target.log1m_tau))
    distance = jnp.where(jnp.isinf(m), 0.0, m - target.logit_tau)
    return with_slopes(m, label + others, p * not_p * distance)
