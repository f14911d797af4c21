# SPDX-License-Identifier: Apache-2.0
"""From hidden states and a language-model head to the label's log-odds."""

from dataclasses import dataclass
from typing import no_type_check

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from unilogit_jax.ops.log_odds import label_columns, log_odds
from unilogit_jax.types import IGNORE, Head


# Unchecked at run time: JAX rebuilds the record around shapes and shardings too.
@no_type_check
@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class HeadStats:
    """What a head says about each label."""

    log_odds: Float[Array, "*T"]
    """m = z_y - logsumexp over the other logits, float32; 0 at positions that do not count."""
    hit: Bool[Array, "*T"]
    """True where greedy decoding would choose the label; False at positions that do not count."""


def label_log_odds(
    hidden: Float[Array, "*T D"],
    head: Head | Float[Array, "V D"],
    labels: Int[Array, "*T"],
    weights: Float[Array, "*T"],
) -> HeadStats:
    """Log-odds of the labels under `softmax(head(hidden))`.

    m = z_y - logsumexp_{j != y} z_j,    z = head(hidden)

    Args:
      hidden: the model's last hidden states.
      head: a `Head`, or a bare kernel [V D] without bias and softcap.
      labels: index of the token to predict; positions outside 0..V-1 do not count.
      weights: positions of weight 0 do not count: no gradient, even if they hold NaN. Other
        weights do not change the result.

    Returns:
      `HeadStats` of shape [*T].

    Example:
      >>> hidden, kernel = jnp.ones((3, 2)), jnp.eye(4, 2)
      >>> stats = label_log_odds(hidden, kernel, jnp.array([0, 2, 0]), jnp.array([1.0, 1.0, 0.0]))
      >>> stats.hit
      Array([ True, False, False], dtype=bool)

    """
    head = head if isinstance(head, Head) else Head(kernel=head)
    counts = weights != 0
    # Masked on the way in: a NaN here would reach the head's gradient as 0 * NaN.
    hidden = jnp.where(counts[..., None], hidden, 0)
    labels = jnp.where(counts, labels.astype(jnp.int32), IGNORE)
    logits = head.logits(hidden)
    return HeadStats(log_odds=log_odds(logits, labels), hit=_is_first_maximum(logits, labels))


def _is_first_maximum(z: Float[Array, "*T V"], labels: Int[Array, "*T"]) -> Bool[Array, "*T"]:
    """`argmax(z) == label`, written without an arg-max over a vocabulary that may be sharded."""
    z = jax.lax.stop_gradient(z)
    at_label = label_columns(labels, z.shape[-1])
    label = jnp.sum(jnp.where(at_label, z, 0.0), axis=-1)[..., None]
    columns = jnp.arange(z.shape[-1], dtype=jnp.int32).reshape((1,) * labels.ndim + (-1,))
    beaten = (z < label) | ((z == label) & (columns >= labels[..., None]))
    return jnp.all(beaten, axis=-1) & jnp.any(at_label, axis=-1)
