# SPDX-License-Identifier: Apache-2.0
"""What an update holds above its weights and optimizer, here and compiled for a TPU.

    python scripts/bench/step_memory.py
    python scripts/bench/step_memory.py --topology v5e:2x2     # needs libtpu, no TPU

The model and batch of `step.py`, one device; nothing is run. The compiler's own figure: gradients,
activations, and whatever the program copies.
"""

import argparse
import sys
from typing import Any

import jax
import numpy as np
import one_thread  # noqa: F401
import step_shape as bench
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from unilogit_jax import methods, models
from unilogit_jax.accelerators import topology_devices
from unilogit_jax.data import Rows, assemble
from unilogit_jax.sharding import make_mesh
from unilogit_jax.train import make_optimizer, make_step
from unilogit_jax.train.state import abstract_state
from unilogit_jax.types import FORGET, RETAIN


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--topology", help="a TPU slice, v5e:2x2 say; one of its chips is used")
    topology = parser.parse_args().topology
    devices = topology_devices(topology) if topology else jax.devices()
    mesh = make_mesh(devices=list(devices)[:1])
    print("| remat | MB above weights and optimizer |\n|---|---|")
    for remat in ("none", "dots", "full"):
        print(f"| {remat} | {temporaries(mesh, remat) / 1e6:.0f} |")
    return 0


def temporaries(mesh: Mesh, remat: Any) -> int:
    """Bytes of an update of Unilogit, by the compiler of the mesh's device."""
    config = bench.our_config()
    model = models.Decoder(config=config, mesh=mesh, remat=remat)
    optimizer = make_optimizer(100, learning_rate=1e-5, clip=None)
    params = jax.eval_shape(lambda: models.init(config, jax.random.key(0))[1])
    state, shardings = abstract_state(params, optimizer, axes=models.logical_axes(model), mesh=mesh)
    tokens, labels = bench.token_rows()
    rows = Rows(tokens, labels, np.full(len(tokens), bench.LENGTH, np.int32))
    sets = np.repeat(np.array([FORGET, RETAIN], np.int32), bench.ROWS)
    whole = NamedSharding(mesh, PartitionSpec())
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole),
        assemble([(rows, np.arange(len(tokens)), {})], sets),
    )
    step: Any = make_step(
        methods.Unilogit(), models.apply_fn(model), optimizer, mesh, shardings=shardings
    )
    return step.lower(state, batch).compile().memory_analysis().temp_size_in_bytes


if __name__ == "__main__":
    sys.exit(main())
