# SPDX-License-Identifier: Apache-2.0
"""Divergences from a teacher's head beside the same on full logits: memory, time, in one process.

    python scripts/bench/divergence.py                    N 2048, D 1024, V 32768, one CPU thread
    python scripts/bench/divergence.py --vocab 128256 --runs 2

Every row is UnDIAL's cross entropy against cached hidden states of the teacher, with the gradients
of hidden states and head, unless it says otherwise. How it is measured: see `head.py`.
"""

import sys
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from measuring import Data, arguments, compiled, make_data, measure, wanted

from unilogit_jax.losses import undial
from unilogit_jax.ops import Divergence, Teacher, TopK, divergence_loss

BETA, STORED = 10.0, 8


def main() -> int:
    options = arguments(__doc__ or "")
    data = make_data(options)
    ref_kernel = jnp.roll(data.kernel, 1, axis=1)

    def ours(direction: Any, teacher: Any = None, **ways: Any) -> Callable:
        how = Divergence(direction=direction, beta=BETA)

        def loss(h: Any, w: Any, y: Any) -> Any:
            known = Teacher(hidden=data.hidden, head=ref_kernel) if teacher is None else teacher
            return divergence_loss(h, w, known, y, data.weights, how, **ways)[0]

        return loss

    def logits(h: Any, w: Any) -> Any:
        return jnp.einsum("nd,vd->nv", h, w, preferred_element_type=jnp.float32)

    def definition(h: Any, w: Any, y: Any) -> Any:
        values = undial(logits(h, w), logits(data.hidden, ref_kernel), y, beta=BETA)
        return jnp.sum(values * data.weights)

    def matmuls(h: Any, w: Any, y: Any) -> Any:
        del y
        u = logits(data.hidden, ref_kernel).astype(h.dtype)
        z = logits(h, w).astype(h.dtype)
        return jnp.einsum("nv,vd->nd", u, w), jnp.einsum("nv,nd->vd", z, h)

    rows = [
        compiled("four bare matmuls", matmuls, data, grad=None),
        compiled("default", ours("cross_entropy"), data),
        compiled("low memory", ours("cross_entropy", keep=False), data),
        compiled("reverse KL", ours("reverse"), data),
        compiled("Jensen-Shannon", ours("js"), data),
        compiled("default, head frozen", ours("cross_entropy"), data, grad=0),
        compiled(f"top {STORED} stored", ours("cross_entropy", stored(data)), data),
        compiled("definition on full logits", definition, data),
    ]
    rows = [row for row in rows if wanted(row.name, options)]
    measure(rows, options, base="four bare matmuls")
    return 0


def stored(data: Data) -> TopK:
    """Any few tokens with any probabilities: the work is the same."""
    rng = np.random.default_rng(1)
    n, v = data.hidden.shape[0], data.kernel.shape[0]
    tokens = rng.integers(0, v, (n, STORED)).astype(np.int32)
    return TopK(
        tokens=jnp.asarray(tokens),
        logprobs=jnp.full((n, STORED), np.log(0.05), jnp.float32),
        label_logprob=jnp.full(n, np.log(0.5), jnp.float32),
        tail_logprob=jnp.full(n, np.log(0.1), jnp.float32),
    )


if __name__ == "__main__":
    sys.exit(main())
