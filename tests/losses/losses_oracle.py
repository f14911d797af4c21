# SPDX-License-Identifier: Apache-2.0
"""NumPy oracles written from the definitions: whole distributions, summed over the vocabulary."""

import numpy as np


def logsumexp(z):
    top = np.max(z, axis=-1, keepdims=True)
    return (top + np.log(np.sum(np.exp(z - top), axis=-1, keepdims=True)))[..., 0]


def log_softmax(z):
    return z - logsumexp(z)[..., None]


def true_log_odds(z, labels):
    """m of each row, from the alternatives alone."""
    rows = [z[i, y] - logsumexp(np.delete(z[i], y)) for i, y in enumerate(labels)]
    return np.array(rows)


def logits_with_log_odds(rng, m, vocab_size, scale=1.0):
    """Float32 logits and labels whose log-odds are `m` up to rounding."""
    z = rng.normal(size=(len(m), vocab_size)) * scale
    labels = rng.integers(0, vocab_size, size=len(m))
    for i, y in enumerate(labels):
        z[i, y] = logsumexp(np.delete(z[i], y)) + m[i]
    return z.astype(np.float32), labels.astype(np.int32)


def unilogit_target_logits(z, labels, tau=None):
    """The label's logit replaced so that its probability is tau."""
    tau = z.dtype.type(1) / z.shape[-1] if tau is None else tau
    target = z.copy()
    for i, y in enumerate(labels):
        target[i, y] = logsumexp(np.delete(target[i], y)) + np.log(tau) - np.log1p(-tau)
    return target


def unilogit_dense(z, labels, direction, tau=None):
    """Value [T] and gradient [T V] of the divergence, the target held fixed.

    In extended precision: at m = -30 the alternatives' entries are differences of numbers 1e14
    times larger. The label's entry is minus the sum of the others, because the loss does not change
    when all logits are shifted; computed directly it would cancel at m = 40.
    """
    z = np.asarray(z, np.longdouble)
    log_p = log_softmax(z)
    log_t = log_softmax(unilogit_target_logits(z, labels, tau))
    p, t = np.exp(log_p), np.exp(log_t)
    if direction == "reverse":
        value = np.sum(p * (log_p - log_t), axis=-1)
        grad = p * (log_p - log_t - value[:, None])
    else:
        value = np.sum(t * (log_t - log_p), axis=-1)
        grad = p - t
    rows = np.arange(len(labels))
    grad[rows, labels] = 0.0
    grad[rows, labels] = -np.sum(grad, axis=-1)
    return value.astype(np.float64), grad.astype(np.float64)
