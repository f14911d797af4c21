# SPDX-License-Identifier: Apache-2.0
"""The label's log-odds, the one number per token that most unlearning losses depend on."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def log_odds(logits: Float[Array, "*T V"], labels: Int[Array, "*T"]) -> Float[Array, "*T"]:
    """Log-odds of the label, exact for certain and for impossible labels alike.

    m = z_y - logsumexp_{j != y} z_j,    p_y = sigmoid(m),    -log p_y = softplus(-m)

    The label is left out before the maximum is taken, so that 1 - p_y = sigmoid(-m) keeps all its
    digits when p_y is close to 1; a log-softmax has none left from m of about 14 on. The derivative
    is given by hand, dm = dz_y - sum_j q_j dz_j with q the distribution of the alternatives. Labels
    are compared with column numbers and never used as an index, so the vocabulary may be sharded.

    Args:
      logits: scores of every vocabulary entry, any float dtype; computed in float32.
      labels: index of the observed token; positions outside 0..V-1 (such as -100) are ignored.

    Returns:
      m, float32 [*T]. Ignored positions give 0 and no gradient, whatever their logits hold. A label
      with logit -inf gives -inf; a label whose alternatives are all -inf gives +inf.

    Raises:
      ValueError: if there is only one logit column.

    Example:
      >>> print(f"{log_odds(jnp.zeros((1, 5)), jnp.array([2]))[0]:.4f}")  # log(1/4)
      -1.3863

    """
    if logits.shape[-1] < 2:
        raise ValueError(
            f"log-odds need at least 2 logit columns, got logits of shape {logits.shape}; "
            "the last axis must be the vocabulary"
        )
    return _log_odds(logits.astype(jnp.float32), labels.astype(jnp.int32))


def label_columns(labels: Int[Array, "*T"], vocab_size: int) -> Bool[Array, "*T V"]:
    """True in the label's column: a one-hot row, or an empty one if the label is out of range.

    Args:
      labels: index of the observed token.
      vocab_size: number of columns.

    Returns:
      Booleans [*T V].

    Example:
      >>> label_columns(jnp.array([1, -100]), 3).astype(int)
      Array([[0, 1, 0],
             [0, 0, 0]], dtype=int32)

    """
    columns = jnp.arange(vocab_size, dtype=jnp.int32).reshape((1,) * labels.ndim + (-1,))
    return columns == labels.astype(jnp.int32)[..., None]


@jax.custom_jvp
def _log_odds(z: Float[Array, "*T V"], labels: Int[Array, "*T"]) -> Float[Array, "*T"]:
    return _parts(z, labels)[0]


@_log_odds.defjvp
def _log_odds_jvp(primals, tangents):
    z, labels = primals
    m, others, at_label, valid = _parts(z, labels)
    # exp(-inf - -inf) is NaN where no alternative is possible; such a position has no q.
    some = others > -jnp.inf
    q = jnp.exp(jnp.where(at_label, -jnp.inf, z) - jnp.where(some, others, 0.0)[..., None])
    slope = jnp.where(at_label, 1.0, -q)
    # The slope itself has to be 0, not only the product: 0 * NaN is NaN when it is transposed.
    slope = jnp.where(valid[..., None], slope, 0.0)
    return m, jnp.sum(slope * tangents[0], axis=-1)


def _parts(z: Float[Array, "*T V"], labels: Int[Array, "*T"]):
    """m, the alternatives' logsumexp, the label's column, and which positions have a label."""
    at_label = label_columns(labels, z.shape[-1])
    alternatives = jnp.where(at_label, -jnp.inf, z)
    top = jax.lax.stop_gradient(jnp.max(alternatives, axis=-1))
    top = jnp.where(jnp.isinf(top), 0.0, top)
    others = top + jnp.log(jnp.sum(jnp.exp(alternatives - top[..., None]), axis=-1))
    label = jnp.sum(jnp.where(at_label, z, 0.0), axis=-1)
    valid = (labels >= 0) & (labels < z.shape[-1])
    return jnp.where(valid, label - others, 0.0), others, at_label, valid
