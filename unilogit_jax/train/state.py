# SPDX-License-Identifier: Apache-2.0
"""The train state, created sharded, and the shardings that the step keeps."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from unilogit_jax.sharding import replicated, shard_head, tree_shardings
from unilogit_jax.train.rounding import widen
from unilogit_jax.train.trainable import EVERYTHING, Trainable
from unilogit_jax.types import Head


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class TrainState:
    """Everything that an update changes, and the frozen teacher head where a method needs one."""

    params: Any
    """The weights: float32, or bfloat16 with stochastic rounding; those not trained too."""
    opt_state: Any
    step: Any = 0
    """Updates done, those that were skipped included."""
    skipped: Any = 0
    """Updates that changed nothing, because loss or gradient was not finite."""
    skipped_in_a_row: Any = 0
    """The newest of them without one in between that did."""
    method_state: Any = ()
    """Duals, random directions and the like, of methods that have any."""
    ref_head: Any = None
    """Head of the frozen reference, or None. Any: trees of shardings have this shape too."""


def abstract_state(
    params: Any, optimizer: optax.GradientTransformation, **options: Any
) -> tuple[TrainState, TrainState]:
    """As `init_state`, with the shapes and places of arrays in place of arrays.

    Args:
      params: shapes of the weights.
      optimizer: as there.
      **options: as there; shapes in `ref_head` too.

    """
    kept: list[TrainState] = []

    def start(params: Any, ref_head: Any) -> TrainState:
        state, shardings = init_state(params, optimizer, **options | {"ref_head": ref_head})
        kept.append(shardings)
        return state

    shapes = jax.eval_shape(start, params, options.get("ref_head"))
    return place(shapes, kept[0]), kept[0]


def place(shapes: Any, shardings: Any) -> Any:
    """Shapes that know where their arrays are to lie."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        shapes,
        shardings,
    )


def init_state(
    params: Any,
    optimizer: optax.GradientTransformation,
    *,
    axes: Any,
    mesh: Mesh,
    ref_head: Head | None = None,
    trainable: Trainable = EVERYTHING,
    consume: bool = False,
    method_state: Any = (),
) -> tuple[TrainState, TrainState]:
    """A fresh state on the mesh, and the same tree holding its shardings.

    Args:
      params: the weights to start from; they are copied, since the step consumes its state.
      optimizer: makes the optimizer state, in float32, sharded like the weights it belongs to.
      axes: the tree of logical axis names of `params`.
      mesh: where the state lives.
      ref_head: the frozen head of the reference model, if the method has a teacher.
      trainable: the weights that are trained; the others have no optimizer state.
      consume: the state takes the memory of `params`, which must not be used any more.
      method_state: what the method starts with, a small tree; every device holds it.

    """
    whole = replicated(mesh)
    param_shardings = tree_shardings(axes, params, mesh)

    def start(params: Any) -> Any:
        return optimizer.init(widen(trainable.pick(params)))

    trained = jax.eval_shape(trainable.pick, params)
    opt_shardings = optax.tree_utils.tree_map_params(
        optimizer,
        # Sums over rows or columns have shapes of their own, and are small.
        lambda x, param, sharding: sharding if x.shape == param.shape else whole,
        jax.eval_shape(start, params),
        trained,
        # Layers are not divided: some of them lie as all do.
        trainable.pick(param_shardings, whole=True),
        transform_non_params=lambda _: whole,
    )
    head_sharding = None
    if ref_head is not None:
        # Before the weights, of which it may be a part.
        head_sharding = shard_head(ref_head, mesh)
        ref_head = jax.jit(_copy, out_shardings=head_sharding)(ref_head)
    # A copy: the state is donated to the step, and the caller's weights outlive it.
    take = jax.jit(_copy, out_shardings=param_shardings, donate_argnums=(0,) if consume else ())
    params = take(params)
    opt_state = jax.jit(start, out_shardings=opt_shardings)(params)
    zeros = [jax.device_put(jnp.zeros((), jnp.int32), whole) for _ in range(3)]
    state = TrainState(
        step=zeros[0],
        skipped=zeros[1],
        skipped_in_a_row=zeros[2],
        params=params,
        opt_state=opt_state,
        method_state=jax.device_put(method_state, whole),
        ref_head=ref_head,
    )
    shardings = TrainState(
        step=whole,
        skipped=whole,
        skipped_in_a_row=whole,
        params=param_shardings,
        opt_state=opt_shardings,
        method_state=jax.tree.map(lambda _: whole, method_state),
        ref_head=head_sharding,  # pyright: ignore[reportArgumentType]
    )
    return state, shardings


def _copy(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)
