# SPDX-License-Identifier: Apache-2.0
"""A model that counts its calls, rows, and a folder in which its answers are kept."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from unilogit_jax.methods import Needs
from unilogit_jax.sharding import make_mesh
from unilogit_jax.train import ReferenceCache, reference_for
from unilogit_jax.types import FORGET, RETAIN, Head, ModelOutput

V, D = 32, 16
HIDDEN = Needs(ref_hidden=frozenset({FORGET, RETAIN}))
FORGETS = Needs(ref_hidden=frozenset({FORGET}))


class Asks:
    """A method that asks for something."""

    def __init__(self, needs):
        self.needs = needs

    def __call__(self, stats, state):
        raise AssertionError("nothing is trained here")


class Model:
    """Embedding and head in two types, and how many batches really went through it."""

    def __init__(self):
        keys = jax.random.split(jax.random.key(0), 2)
        self.params = {
            "embed": jax.random.normal(keys[0], (V, D)),
            "head": jax.random.normal(keys[1], (V, D)).astype(jnp.bfloat16),
        }
        self.calls = 0

    def __call__(self, params, batch):
        def count(x):
            self.calls += 1
            return x

        embedded = params["embed"][batch.tokens]
        hidden = jax.pure_callback(
            count, jax.ShapeDtypeStruct(embedded.shape, jnp.float32), embedded
        )
        return ModelOutput(hidden=hidden.astype(jnp.bfloat16), head=Head(kernel=params["head"]))


def make_mesh_of(devices):
    return make_mesh(fsdp=max(devices // 2, 1), tensor=-1, devices=jax.devices()[:devices])


class Rig:
    """A model, rows, and a folder where its answers are kept."""

    def __init__(self, folder, rows):
        self.model, self.mesh, self.warnings = Model(), make_mesh_of(1), []
        self.rows = {FORGET: rows(9, 10, 0), RETAIN: rows(14, 12, 1)}
        for own in self.rows.values():
            own.tokens[:] %= V
            own.labels[:] = np.where(own.labels < 0, own.labels, own.labels % V)
        self.cache = ReferenceCache(
            folder=folder, model={"width": D}, version="1", warn=self.warnings.append
        )

    def ask(self, needs=HIDDEN, params=None, rows=None, **changes):
        """The references, whether the model was called for them, and what was said."""
        before, self.warnings[:] = self.model.calls, []
        cache = replace(self.cache, **changes) if self.cache else None
        found, head = reference_for(
            Asks(needs),
            self.model,
            params or self.model.params,
            rows or self.rows,
            batch_size=4,
            mesh=self.mesh,
            cache=cache,
        )
        jax.block_until_ready(head)
        return found, self.model.calls - before


def same(a, b):
    assert a.keys() == b.keys()
    for which, arrays in a.items():
        assert arrays.keys() == b[which].keys()
        for name, x in arrays.items():
            assert x.dtype == b[which][name].dtype and x.shape == b[which][name].shape
            assert x.tobytes() == b[which][name].tobytes(), name
    return True


def in_memory(rig, needs=HIDDEN):
    """The references without a cache."""
    cache, rig.cache = rig.cache, None
    found, _ = rig.ask(needs)
    rig.cache = cache
    return found
