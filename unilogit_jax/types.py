# SPDX-License-Identifier: Apache-2.0
"""The letters of every shape, and the four records that models, methods and the step exchange.

Shape letters, the same everywhere:

    B  rows of a batch        L  positions of a row       V  vocabulary (logit columns)
    D  model width            H  attention heads          K  key/value heads
    N  flat tokens            *T any leading token axes

Sets (`Batch.sets`): 0 nothing, 1 forget, 2 retain, 3 alternate answers to questions of the forget
set, 4 alternate answers to questions of the retain set.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

IGNORE = -100
"""Label of a position that is not supervised (the value Hugging Face and PyTorch use)."""

FORGET, RETAIN, ALTERNATE, RETAIN_ALTERNATE = 1, 2, 3, 4
"""Values of `Batch.sets`; 0 marks padding."""

SETS = 5
"""How many values there are."""

Items = Callable[[str, int, int], None]
"""Is told of progress: what is counted ("answers", say), how many are done, and of how many."""


def _static(default: Any) -> Any:
    """A field that belongs to the tree structure, not to its leaves."""
    return field(default=default, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Batch:
    """One packed batch: forget and retain rows together.

    `labels[b, t]` is the token that position t has to predict (the shift by one is already done) or
    `IGNORE`. `segments` numbers the examples of the whole batch from 1; 0 is padding, and attention
    never crosses from one number to another. On the host the fields are NumPy arrays.
    """

    tokens: Int[Array, "B L"]
    labels: Int[Array, "B L"]
    segments: Int[Array, "B L"]
    positions: Int[Array, "B L"]
    sets: Int[Array, "B L"]
    weights: Float[Array, "B L"]
    """1 at supervised positions, 0 elsewhere; a method may be given other weights."""
    ref_log_odds: Float[Array, "B L"] | None = None
    """The label's log-odds under the frozen reference model, for methods that need them."""
    ref_hidden: Float[Array, "B L D"] | None = None
    """The reference model's last hidden states, for methods that need its whole distribution; or
    those of the layer that a method acts on."""
    ref_tokens: Int[Array, "B L K"] | None = None
    """The likeliest tokens but the label under the reference, where a few are stored of it."""
    ref_logprobs: Float[Array, "B L K"] | None = None
    """Their log-probabilities."""
    ref_tail: Float[Array, "B L"] | None = None
    """The log-probability of all that is neither the label nor among them."""
    logit_tau: Float[Array, "B L"] | None = None
    """Log-odds of the probability that a label is to have, where tokens have their own."""
    partners: Int[Array, "B L"] | None = None
    """The number of the example that answers the same question in another set; 0 for none."""
    unseen: Bool[Array, "B L"] | None = None
    """Tokens of texts that no other token attends to; None: there are none."""
    num_segments: int = _static(0)
    """Number of examples, padding segment 0 included: a static size for segment sums."""


def head_precision(hidden: Float[Array, "*T D"]) -> Literal["highest"] | None:
    """How a head multiplies: float32 exactly, even where the backend would round to bfloat16 first.

    So generation and the scored pass see the same logits. None is the backend's own way.

    Example:
      >>> head_precision(jnp.ones((3, 2))), head_precision(jnp.ones((3, 2), jnp.bfloat16))
      ('highest', None)

    """
    return "highest" if hidden.dtype == jnp.float32 else None


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Head:
    """A language-model head: `logits = cap(hidden @ kernel + bias)`.

    Columns from `valid_vocab` on are padding: their logits are -inf and they do not count in V.
    """

    kernel: Float[Array, "V D"] | Float[Array, "D V"]
    bias: Float[Array, " V"] | None = None
    layout: Literal["vd", "dv"] = _static("vd")
    softcap: float | None = _static(None)
    valid_vocab: int | None = _static(None)

    @property
    def vocab_size(self) -> int:
        """Number of logit columns that the softmax sees."""
        return self.valid_vocab or self.kernel.shape[0 if self.layout == "vd" else 1]

    def logits(self, hidden: Float[Array, "*T D"]) -> Float[Array, "*T V"]:
        """All logits, in float32. Holds an array of tokens x V: for small V and for generation.

        Example:
          >>> Head(kernel=jnp.ones((5, 2))).logits(jnp.ones((3, 2))).shape
          (3, 5)

        """
        spec = "...d,vd->...v" if self.layout == "vd" else "...d,dv->...v"
        kernel = self.kernel.astype(hidden.dtype)
        exact = head_precision(hidden)
        z = jnp.einsum(spec, hidden, kernel, precision=exact, preferred_element_type=jnp.float32)
        if self.bias is not None:
            z = z + self.bias.astype(jnp.float32).reshape(*(1,) * (z.ndim - 1), -1)
        if self.softcap is not None:
            z = self.softcap * jnp.tanh(z / self.softcap)
        if self.valid_vocab is not None:
            columns = jnp.arange(z.shape[-1]).reshape(*(1,) * (z.ndim - 1), -1)
            z = jnp.where(columns < self.valid_vocab, z, -jnp.inf)
        return z


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class ModelOutput:
    """What `apply_fn(params, batch)` returns: the contract between a model and everything else."""

    hidden: Float[Array, "B L D"]
    head: Head
    layers: tuple[Float[Array, "B L D"], ...] | None = None
    """Outputs of chosen layers, for methods that act on them."""

    def logits(self) -> Float[Array, "B L V"]:
        """All logits, in float32."""
        return self.head.logits(self.hidden)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class TokenStats:
    """What a method sees of the model: numbers of each supervised token, and where it belongs.

    Unsupervised positions have weight 0 and arbitrary finite values.
    """

    log_odds: Float[Array, "*T"]
    """m = z_y - logsumexp over the other logits; -log p = softplus(-m)."""
    sets: Int[Array, "*T"]
    segments: Int[Array, "*T"]
    weights: Float[Array, "*T"]
    ref_log_odds: Float[Array, "*T"] | None = None
    logit_tau: Float[Array, "*T"] | None = None
    partners: Int[Array, "*T"] | None = None
    extras: dict[str, Float[Array, "*T"]] = field(default_factory=dict)
    """Further numbers of each token, those that a method's `needs.extras` names."""
    compared: dict[int, Float[Array, ""]] = field(default_factory=dict)
    """Set -> the mean divergence of its tokens from their teacher, where a method compares them."""
    hidden: Float[Array, "*T D"] | None = None
    """Outputs of the layer that a method acts on."""
    ref_hidden: Float[Array, "*T D"] | None = None
    """The same of the reference."""
    set_tokens: Float[Array, " S"] | None = None
    """Weight of the supervised tokens of each set in the whole batch, where these tokens are a part
    of it; None: these are all."""
    set_answers: Float[Array, " S"] | None = None
    """Number of examples with supervised tokens of each set, likewise."""
    vocab_size: int = _static(0)
    num_segments: int = _static(0)
