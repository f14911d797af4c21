# SPDX-License-Identifier: Apache-2.0
"""Loss and gradients of a step, and how far two trees are apart."""

from dataclasses import replace

import jax
import numpy as np
import optax

from unilogit_jax.sharding import put_batch
from unilogit_jax.train import make_step


def gradients(rig_, **options):
    """Loss and gradients of the first batch, through the step itself: SGD with rate one."""
    optimizer = optax.sgd(1.0)
    step = make_step(rig_.method, rig_.apply, optimizer, rig_.mesh, **options)
    state, _ = rig_.state()
    state = replace(state, opt_state=optimizer.init(state.params))
    before = jax.tree.map(np.asarray, state.params)
    after, metrics = step(state, put_batch(rig_.batches(0), rig_.mesh))
    grads = jax.tree.map(lambda a, b: a - np.asarray(b), before, after.params)
    return {name: float(x) for name, x in metrics.items()}, grads


def worst(a, b):
    """max|a - b| / max|a| over the whole tree."""
    size = max(np.abs(x).max() for x in jax.tree.leaves(a))
    return (
        max(
            np.abs(x - y).max() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        )
        / size
    )
