# SPDX-License-Identifier: Apache-2.0
"""From trained weights to a stage's result: adapters are merged, a method's `finish` is applied."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from unilogit_jax import models
from unilogit_jax.methods import Finishing, Method
from unilogit_jax.train.rounding import widen


def finisher(method: Method, start: Any, lora: models.Lora | None = None) -> Callable[[Any], Any]:
    """What makes the weights of the result out of what was trained.

    `finish` works in float32; the result is rounded once, and lies on the mesh as `start` does.
    Under adapters it works on what they add to the kernels, from zero: their products are small
    beside the kernels, and their digits are not lost in a sum.

    Args:
      method: with or without a `finish`.
      start: the weights before training; they have to outlive it.
      lora: the adapters that are trained in their place, if any.

    """
    if not isinstance(method, Finishing):
        return lambda trained: trained if lora is None else models.merge_lora(start, trained, lora)
    if lora is None:

        def finished(start: Any, trained: Any) -> Any:
            new = method.finish(widen(start), widen(trained))
            return jax.tree.map(lambda x, old: x.astype(old.dtype), new, start)

        run = jax.jit(finished, out_shardings=_shardings(start))
        return lambda trained: run(start, trained)

    def added(kernels: Any, additions: Any) -> Any:
        nothing = jax.tree.map(jnp.zeros_like, additions)
        new = method.finish(nothing, additions)
        return jax.tree.map(lambda old, x: (widen(old) + x).astype(old.dtype), kernels, new)

    def merged(adapters: Any) -> Any:
        kernels = _adapted(start, adapters)
        nothing = jax.tree.map(
            lambda x: jnp.zeros(x.shape, jnp.float32, device=x.sharding), kernels
        )
        additions = models.merge_lora(nothing, adapters, lora)
        run = jax.jit(added, out_shardings=_shardings(kernels))
        return _replaced(start, run(kernels, additions))

    return merged


def _shardings(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.sharding, tree)


def _adapted(params: Mapping[str, Any], adapters: Mapping[str, Any]) -> dict[str, Any]:
    """The kernels that have adapters, alone."""
    if "a" in adapters:
        return {"kernel": params["kernel"]}
    return {name: _adapted(params[name], below) for name, below in adapters.items()}


def _replaced(params: Mapping[str, Any], some: Mapping[str, Any]) -> dict[str, Any]:
    """The weights, with others for some."""
    new = {
        name: _replaced(params[name], x) if isinstance(x, Mapping) else x
        for name, x in some.items()
    }
    return {**params, **new}
