# SPDX-License-Identifier: Apache-2.0
"""One update as this library makes it, for `step.py`."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from step_shape import LAYER, LENGTH, ROWS, WIDTH, our_config, token_rows

from unilogit_jax import methods, models, train
from unilogit_jax.data import Rows, assemble
from unilogit_jax.sharding import make_mesh, put_batch
from unilogit_jax.types import FORGET, RETAIN, Batch, Head

OPTIONS = {"unilogit initial": {"alternatives": "initial"}, "rmu": {"layer": LAYER}}
"""Of rows that are not a method by its defaults."""


def prepare(method: str, remat: Any) -> Callable[[], None]:
    """Makes model, batch and state, and returns the update."""
    mesh = make_mesh(devices=jax.devices()[:1])
    model, params = models.init(our_config(), jax.random.key(0), mesh=mesh)
    chosen = methods.METHODS[method.partition(" ")[0]](**OPTIONS.get(method, {}))
    axes, layer = models.logical_axes(model), chosen.needs.layer
    trainable, method_state = train.EVERYTHING, ()
    if layer is not None:
        names = [f"layers.{LAYER - 1}-{LAYER}.mlp.down_proj"]
        trainable = train.choose_trainable(models.param_shapes(model), names)
        method_state = chosen.start(jax.random.key(1), width=WIDTH)
        model = models.to_layer(model, layer)
    apply = models.apply_fn(model.clone(remat=remat, trained=trainable.span))
    batch, ref_head = batch_of(chosen, apply, params, mesh)
    optimizer = train.make_optimizer(100, learning_rate=1e-5, clip=None)
    state, shardings = train.init_state(
        params,
        optimizer,
        axes=axes,
        mesh=mesh,
        ref_head=ref_head,
        trainable=trainable,
        method_state=method_state,
    )
    del params
    step = train.make_step(chosen, apply, optimizer, mesh, shardings=shardings, trainable=trainable)
    box = [state]

    def update() -> None:
        box[0], metrics = step(box[0], batch)
        jax.block_until_ready((box[0], metrics))

    return update


def batch_of(
    method: methods.Method, apply: Any, params: Any, mesh: Mesh
) -> tuple[Batch, Head | None]:
    """The batch with what the method needs of the start model, and that model's head."""
    tokens, labels = token_rows()
    lengths = np.full(ROWS, LENGTH, np.int32)
    rows = {
        which: Rows(tokens[part], labels[part], lengths)
        for which, part in ((FORGET, slice(0, ROWS)), (RETAIN, slice(ROWS, None)))
    }
    found, ref_head = train.reference_for(method, apply, params, rows, batch_size=ROWS, mesh=mesh)
    known = {which: found.get(which, {}) for which in rows}
    shapes = {name: x[:1] * 0 for own in known.values() for name, x in own.items()}
    for own in known.values():
        for name, blank in shapes.items():
            own.setdefault(name, np.repeat(blank, ROWS, axis=0))
    sets = np.repeat(np.array([FORGET, RETAIN], np.int32), ROWS)
    every = np.arange(ROWS)
    parts = [(own, every, known[which]) for which, own in rows.items()]
    return put_batch(assemble(parts, sets), mesh), ref_head
