# SPDX-License-Identifier: Apache-2.0
"""A model beside a teacher, whose divergences are also made from whole distributions in float64."""

import jax.numpy as jnp
import numpy as np

from unilogit_jax.ops import Teacher
from unilogit_jax.types import Head

DIRECTIONS = ["forward", "cross_entropy", "reverse", "anchored", "js"]
TARGETS = {"own": {}, "lowered": {"beta": 3.0}, "uniform": {"tau": "uniform"}, "tau": {"tau": 0.2}}
N, D, E, V, VALID = 37, 8, 6, 53, 50


def make(rng):
    """Model, teacher, labels and weights; heads with bias, cap, padding, in both layouts."""

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    side = {"hidden": normal(N, D), "kernel": normal(V, D), "bias": normal(V)}
    ref = {"hidden": normal(N, E), "kernel": normal(E, V)}
    labels = jnp.asarray(rng.integers(0, VALID, N), jnp.int32)
    weights = jnp.asarray((rng.random(N) > 0.3) * rng.random(N), jnp.float32)
    return side, ref, labels, weights


def logits(side, ref):
    z = np.asarray(side["hidden"], np.float64) @ np.asarray(side["kernel"], np.float64).T
    z = 3 * np.tanh((z + np.asarray(side["bias"], np.float64)) / 3)
    u = np.asarray(ref["hidden"], np.float64) @ np.asarray(ref["kernel"], np.float64)
    return z[:, :VALID], u[:, :VALID]


def through_head(dz, side):
    """dL/dz in float64 back through cap and head."""
    h, w = (np.asarray(side[k], np.float64) for k in ("hidden", "kernel"))
    raw = (h @ w.T + np.asarray(side["bias"], np.float64))[:, :VALID]
    dz = dz * (1 - np.tanh(raw / 3) ** 2)
    full = np.zeros((N, V))
    full[:, :VALID] = dz
    return {"hidden": full @ w, "kernel": full.T @ h, "bias": full.sum(0)}


def own_head(side):
    return Head(kernel=side["kernel"], bias=side["bias"], softcap=3.0, valid_vocab=VALID)


def teacher_of(ref):
    return Teacher(
        hidden=ref["hidden"], head=Head(kernel=ref["kernel"], layout="dv", valid_vocab=VALID)
    )


def exact_options(options):
    tau = options.get("tau")
    tau = 1 / VALID if tau == "uniform" else tau
    tau = None if tau is None else np.full(N, tau)
    return {"beta": options.get("beta", 0.0), "tau": tau}


def assert_close(got, wanted):
    for name, value in wanted.items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(got[name], value, rtol=2e-5, atol=2e-6 * scale, err_msg=name)
