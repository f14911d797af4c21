# SPDX-License-Identifier: Apache-2.0
"""The gradient of methods that want it sharp: the forget term's at the worst weights nearby."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from unilogit_jax.methods import Method, Unlearning
from unilogit_jax.train.accumulate import Sums
from unilogit_jax.train.objective import Metrics
from unilogit_jax.train.rounding import add_updates, widen
from unilogit_jax.types import Batch

Loss = Callable[..., tuple[Float[Array, ""], Metrics]]
"""(method, weights, part, its number, logged=) -> loss, and numbers of the method `logged`."""


def radius_of(method: Method) -> float | None:
    """The length rho of the step uphill; None where a method wants none.

    Raises:
      ValueError: a method is `sharp` and has no field `rho`.

    Example:
      >>> from unilogit_jax.methods import Npo, NpoSam
      >>> radius_of(NpoSam(rho=0.05)), radius_of(Npo())
      (0.05, None)

    """
    if not (isinstance(method, Unlearning) and method.sharp):
        return None
    if not hasattr(method, "rho"):
        raise ValueError(f"{type(method).__name__} is `sharp`: it needs a field `rho`, a number.")
    return method.rho  # pyright: ignore[reportAttributeAccessIssue]


def gradients_of(method: Method) -> int:
    """How many gradients an update takes: of a sharp method forget here and uphill, retain here.

    Example:
      >>> from unilogit_jax.methods import Npo, NpoSam
      >>> gradients_of(NpoSam()), gradients_of(Npo())
      (3, 1)

    """
    return 1 if radius_of(method) is None else 3


def sharp_gradients(
    method: Unlearning,
    loss_of: Loss,
    trained: Any,
    summed: Callable[[Callable[[Batch, Any], Sums]], Sums],
    *,
    rho: float,
    key: Array,
) -> Sums:
    """Gradient of the forget term at the worst weights within rho, plus that of the retain term.

    grad L_f(w + rho g/|g|) + grad L_r(w),    g = grad L_f(w)

    Args:
      method: the method; its terms are those of `terms`.
      loss_of: the loss of a part of the batch.
      trained: the trained weights w.
      summed: sums over the parts of the batch; g is that of all of it.
      rho: length of the step uphill.
      key: of the rounding of bfloat16 weights, in which most of so small a step would be lost.

    Returns:
      The gradient, the loss whose gradient it is, and the method's numbers at w, with the forget
      loss uphill among them.

    Reference: arXiv:2502.05374; sharpness-aware minimisation: arXiv:2010.01412.
    """
    forget, retain = method.terms()

    def here(part: Batch, number: Any) -> Sums:
        def loss(trained: Any) -> tuple[Array, Metrics]:
            return loss_of(forget, trained, part, number, logged=method)

        (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(trained)
        return Sums(value, widen(grads), metrics)

    start = summed(here)
    uphill = add_updates(trained, _step_uphill(start.grads, rho), key)

    def there(part: Batch, number: Any) -> Sums:
        def losses(both: Any) -> tuple[Array, Metrics]:
            far, _ = loss_of(forget, both[0], part, number)
            near, _ = loss_of(retain, both[1], part, number)
            return far + near, {"sharp_forget_loss": far}

        (value, metrics), grads = jax.value_and_grad(losses, has_aux=True)((uphill, trained))
        return Sums(value, jax.tree.map(jnp.add, *widen(grads)), metrics)

    end = summed(there)
    return end._replace(metrics=start.metrics | end.metrics)


def _step_uphill(grads: Any, rho: float) -> Any:
    """A step of length rho along the gradient; none where it is zero."""
    norm = optax.tree.norm(grads)
    scale = jnp.where(norm > 0, rho / jnp.where(norm > 0, norm, 1.0), 0.0)
    return jax.tree.map(lambda g: scale * g, grads)
