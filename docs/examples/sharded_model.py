# SPDX-License-Identifier: Apache-2.0
"""A model of your own under shard_map: every device sees some rows and a slice of the logits."""

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from unilogit_jax import losses

jax.config.update("jax_num_cpu_devices", 4)  # for this demonstration: real devices need nothing

VOCABULARY, WIDTH = 64, 16
mesh = jax.make_mesh((2, 2), ("rows", "vocab"), axis_types=(AxisType.Auto, AxisType.Auto))
specs = {"embed": P(), "head": P("vocab")}


def log_odds(params, tokens, labels):
    """Of the labels, z_y - logsumexp_{j != y} z_j, where z is divided over `vocab`."""
    logits = params["embed"][tokens] @ params["head"].T  # [B, L, V / 2]
    width = logits.shape[-1]
    first = width * jax.lax.axis_index("vocab")
    label = labels[..., None] - first == jnp.arange(width)
    others = jnp.where(label, -jnp.inf, logits)  # left out while summing: exact near p = 1
    top = jax.lax.pmax(jax.lax.stop_gradient(others.max(axis=-1)), "vocab")
    total = jax.lax.psum(jnp.sum(jnp.exp(others - top[..., None]), axis=-1), "vocab")
    label_logit = jax.lax.psum(jnp.sum(jnp.where(label, logits, 0.0), axis=-1), "vocab")
    return label_logit - top - jnp.log(total)


def mean_of(loss):
    """A loss of log-odds as a function of weights and rows that lie on the mesh."""

    def total(params, rows):
        values = loss(log_odds(params, rows[:, :-1], rows[:, 1:]))
        return jax.lax.psum(jnp.sum(values), "rows")  # sums add up over devices, means do not

    spread = jax.shard_map(total, mesh=mesh, in_specs=(specs, P("rows")), out_specs=P())
    return lambda params, rows: spread(params, rows) / rows[:, 1:].size


forget_term = mean_of(lambda m: losses.unilogit_from_log_odds(m, vocab_size=VOCABULARY))
retain_term = mean_of(losses.cross_entropy_from_log_odds)


def train(objective, params, steps):
    optimizer = optax.adam(2e-2)
    state = optimizer.init(params)

    @jax.jit
    def update(params, state):
        updates, state = optimizer.update(jax.grad(objective)(params), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        # Forced CPU devices share few threads: several updates on their way lock each other out.
        params, state = jax.block_until_ready(update(params, state))
    return params


rows = jnp.arange(VOCABULARY).reshape(8, 8)  # every token has one successor
forget, retain = rows[:2], rows[2:]
keys = dict(zip(specs, jax.random.split(jax.random.key(0)), strict=True))
params = {
    name: jax.device_put(
        0.1 * jax.random.normal(keys[name], (VOCABULARY, WIDTH)), NamedSharding(mesh, specs[name])
    )
    for name in specs
}
learned = train(lambda p: retain_term(p, rows), params, 100)
unlearned = train(lambda p: forget_term(p, forget) + 4.0 * retain_term(p, retain), learned, 100)
for name, params in (("learned", learned), ("unlearned", unlearned)):
    nll = f"forget {retain_term(params, forget):.2f}  retain {retain_term(params, retain):.2f}"
    print(f"{name:9}  NLL {nll}")
