# SPDX-License-Identifier: Apache-2.0
"""Optimizers: their first update in NumPy, what they keep, and where it lies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax.sharding import put_batch
from unilogit_jax.train import init_state, make_optimizer, make_schedule, make_step

RATE, DECAY = 0.01, 0.1
MESH = {"data": 1, "fsdp": 4, "tensor": 2}


def first_direction(name, g):
    """In float64, from each method's formula at its first update."""
    if name == "sgd":
        return g
    if name == "lion":
        return np.sign(g)
    if name == "adamw":
        return g / (np.abs(g) + 1e-8)
    squares = g**2 + 1e-30
    rows, columns = squares.mean(1, keepdims=True), squares.mean(0, keepdims=True)
    direction = g / np.sqrt(rows * columns / squares.mean())
    return direction / max(1.0, np.sqrt((direction**2).mean()))


@pytest.mark.parametrize("name", ["adamw", "adafactor", "lion", "sgd"])
def test_the_first_update_is_that_of_the_formula(rng, name):
    w, g = (rng.normal(size=(128, 160)) for _ in range(2))
    options = {"learning_rate": RATE, "weight_decay": DECAY, "schedule": "constant", "warmup": 0.0}
    optimizer = make_optimizer(10, name=name, clip=None, **options)
    params, grads = ({"kernel": jnp.asarray(x, jnp.float32)} for x in (w, g))
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    wanted = -RATE * (first_direction(name, g) + DECAY * w)
    np.testing.assert_allclose(updates["kernel"], wanted, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "floats"),
    [("adamw", 2 * 256 * 512), ("lion", 256 * 512), ("adafactor", 256 + 512), ("sgd", 0)],
)
def test_an_optimizer_keeps_as_much_as_it_says(name, floats):
    params = {"kernel": jnp.zeros((256, 512))}
    state = make_optimizer(10, learning_rate=RATE, name=name).init(params)
    kept = sum(x.size for x in jax.tree.leaves(state))
    assert floats <= kept <= floats + 6  # counters, the three numbers of the schedule, a filler


@pytest.mark.parametrize("name", ["adamw", "adafactor", "lion", "sgd"])
def test_an_optimizer_runs_on_eight_devices_its_state_divided(rig, name):
    eight = rig(MESH)
    optimizer = make_optimizer(6, learning_rate=1e-2, name=name)
    eight.optimizer = optimizer
    state, shardings = eight.state()
    kernel = state.params["layers"]["attn"]["q_proj"]["kernel"]
    for leaf in jax.tree.leaves(state.opt_state):
        if leaf.shape == kernel.shape:
            assert leaf.addressable_shards[0].data.size < leaf.size
    step = make_step(eight.method, eight.apply, optimizer, eight.mesh, shardings=shardings)
    before = np.asarray(kernel)
    state, metrics = step(state, put_batch(eight.batches(0), eight.mesh))
    assert np.isfinite(float(metrics["loss"])) and int(state.skipped) == 0
    assert np.any(np.asarray(state.params["layers"]["attn"]["q_proj"]["kernel"]) != before)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("rising", [0, 1, 4])
def test_the_rate_rises_to_its_peak_and_falls_to_zero(schedule, rising):
    steps, rest = 20, 20 - rising
    rate = make_schedule(steps, learning_rate=RATE, schedule=schedule, warmup=rising / steps)
    fall = {
        "constant": lambda x: 1.0,
        "linear": lambda x: 1 - x,
        "cosine": lambda x: (1 + np.cos(np.pi * x)) / 2,
    }[schedule]
    wanted = [(i + 1) / rising if i < rising else fall((i - rising) / rest) for i in range(steps)]
    found = [float(rate(i)) for i in range(steps)]
    np.testing.assert_allclose(found, RATE * np.array(wanted), rtol=1e-5)
    assert schedule == "constant" or abs(float(rate(steps + 3))) < 1e-8


def test_runs_that_differ_in_rate_and_length_share_a_program_and_do_as_they_are_told(rig):
    one = rig({"data": 1, "fsdp": 1, "tensor": 1})
    before = np.asarray(one.state()[0].params["embed"]["kernel"])
    batch, programs, moved = put_batch(one.batches(0), one.mesh), [], []
    for steps, rate, warmup in ((6, 1e-2, 0.0), (40, 3e-3, 0.1)):
        one.optimizer = make_optimizer(steps, learning_rate=rate, warmup=warmup, weight_decay=0.0)
        state, shardings = one.state()
        step = make_step(one.method, one.apply, one.optimizer, one.mesh, shardings=shardings)
        programs.append(step.lower(state, batch).as_text())
        after = np.asarray(step(state, batch)[0].params["embed"]["kernel"])
        moved.append(np.abs(after - before).max())
    assert programs[0] == programs[1]
    # Adam's first update moves weights by the rate: a quarter of the second one's, which warms up.
    np.testing.assert_allclose(moved, [1e-2, 3e-3 / 4], rtol=1e-3)


def test_factored_moments_of_stacked_layers_lie_whole_on_every_device(rig):
    eight = rig(MESH)
    params = {"layers": {"kernel": jnp.ones((2, 256, 512))}}
    axes = {"layers": {"kernel": ("layers", "embed", "mlp")}}
    optimizer = make_optimizer(6, learning_rate=1e-2, name="adafactor")
    state, shardings = init_state(params, optimizer, axes=axes, mesh=eight.mesh)
    sizes = {x.shape for x in jax.tree.leaves(state.opt_state)}
    assert {(2, 256), (2, 512)} <= sizes
    for leaf, sharding in zip(
        jax.tree.leaves(state.opt_state), jax.tree.leaves(shardings.opt_state), strict=True
    ):
        assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(
        ValueError, match="optimizer 'adam' is unknown; use one of adamw, adafactor"
    ):
        make_optimizer(10, learning_rate=RATE, name="adam")
