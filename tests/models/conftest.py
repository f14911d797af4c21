# SPDX-License-Identifier: Apache-2.0
"""Tiny decoders with random parameters, made in NumPy so that nothing is compiled for them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax import models


@pytest.fixture(scope="session")
def make_tiny() -> Callable:
    """make_tiny(**fields) -> (model, params); norm weights differ from 1."""

    def make(**fields):
        sizes = {"vocab_size": 64, "width": 32, "heads": 4, "kv_heads": 2, "max_length": 64}
        model = models.Decoder(models.DecoderConfig.scratch(**{**sizes, **fields}))
        rng = np.random.default_rng(3)

        def draw(leaf, axes):
            noise = 0.2 * rng.standard_normal(leaf.shape)
            return jnp.asarray(noise + (axes[-1] == "norm"), leaf.dtype)

        shapes, axes = models.param_shapes(model), models.logical_axes(model)
        return model, jax.tree.map(draw, shapes, axes)

    return make


@pytest.fixture(scope="session")
def tiny(make_tiny):
    """A two-layer model with grouped queries and a tied head."""
    return make_tiny()
