# SPDX-License-Identifier: Apache-2.0
"""Divergences from whole distributions, as their definitions say, in float64 or wider."""

import numpy as np


def logsumexp(z):
    top = z.max(axis=-1, keepdims=True)
    return top + np.log(np.exp(z - top).sum(axis=-1, keepdims=True))


def target(u, labels, *, beta=0.0, tau=None):
    """log t [N, V]: the teacher's logits with the label lowered by beta, or set to tau."""
    u, rows = np.array(u, np.result_type(u, np.float64)), np.arange(len(u))
    if tau is None:
        u[rows, labels] -= beta
        return u - logsumexp(u)
    u[rows, labels] = -np.inf
    logt = u - logsumexp(u) + np.log1p(-np.asarray(tau))[..., None]
    logt[rows, labels] = np.log(tau)
    return logt


def divergence(z, logt, labels, direction):
    """Value [N] and gradient with respect to z [N, V]."""
    z, rows = np.asarray(z, np.result_type(z, np.float64)), np.arange(len(z))
    logp = z - logsumexp(z)
    p, t = np.exp(logp), np.exp(logt)
    if direction == "forward":
        return (t * (logt - logp)).sum(1), p - t
    if direction == "cross_entropy":
        return -(t * logp).sum(1), p - t
    if direction == "reverse":
        gap = logp - logt
        value = (p * gap).sum(1)
        return value, p * (gap - value[:, None])
    if direction == "js":
        mean = np.log((p + t) / 2)
        half = (p * (logp - mean)).sum(1)
        value = ((t * (logt - mean)).sum(1) + half) / 2
        return value, p * (logp - mean - half[:, None]) / 2
    at = np.arange(z.shape[1]) == np.asarray(labels)[:, None]
    logq, logq0 = (x - logsumexp(np.where(at, -np.inf, x)) for x in (z, logt))
    q, q0 = (np.where(at, 0, np.exp(x)) for x in (logq, logq0))
    m, logit_tau = logq[rows, labels], logq0[rows, labels]
    log_p, log_not_p = -np.log1p(np.exp(-m)), -np.log1p(np.exp(m))
    log_tau, log_not_tau = -np.log1p(np.exp(-logit_tau)), -np.log1p(np.exp(logit_tau))
    binary = np.exp(log_p) * (log_p - log_tau) + np.exp(log_not_p) * (log_not_p - log_not_tau)
    w = np.exp(log_p + log_not_p) * (m - logit_tau)
    dz = np.where(at, w[:, None], q - q0 - w[:, None] * q)
    return binary + (q0 * (logq0 - logq)).sum(1), dz
