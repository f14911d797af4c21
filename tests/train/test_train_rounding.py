# SPDX-License-Identifier: Apache-2.0
"""Stochastic rounding: unbiased, between neighbours, the same on any mesh; small steps are kept."""

from functools import partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from unilogit_jax.sharding import make_mesh
from unilogit_jax.train import stochastic_round
from unilogit_jax.train.rounding import add_updates, below_ulp, widen

BF16 = ml_dtypes.bfloat16
LARGEST = float(ml_dtypes.finfo(BF16).max)
sr = jax.jit(partial(stochastic_round, dtype=jnp.bfloat16))


def floats(rng, n):
    """Float32 values of all magnitudes that bfloat16 has, subnormal ones too, and both signs."""
    bits = rng.integers(0, 2**32, n, dtype=np.uint32)
    values = bits.view(np.float32)
    return values[np.abs(values) <= LARGEST]


def neighbours(x):
    """The largest bfloat16 not above x and the smallest not below it, by nextafter."""
    near = x.astype(BF16)
    wide = near.astype(np.float32)
    down, up = (np.nextafter(near, BF16(limit)) for limit in (-np.inf, np.inf))
    return np.where(wide <= x, near, down), np.where(wide >= x, near, up)


def test_the_result_is_one_of_the_two_neighbours_and_both_occur(rng):
    x = floats(rng, 200_000)
    low, high = neighbours(x)
    got = np.asarray(sr(x, jax.random.key(0)))
    assert np.all((got == low) | (got == high))
    between = low != high
    assert between.mean() > 0.9
    assert 0.49 < np.mean((got == low)[between]) < 0.51


@pytest.mark.parametrize("x", [1 + 2**-9, -3.0017, 1e-38, 2.0**-128 * 1.003, 0.99999, 65000.3])
def test_the_mean_over_many_keys_is_the_value(x):
    n = 40_000
    x = np.float32(x)
    drawn = sr(jnp.full(n, x), jax.random.key(1))
    low, high = (float(v[0]) for v in neighbours(x[None]))
    share = (float(x) - low) / (high - low)
    sigma = (high - low) * np.sqrt(share * (1 - share) / n)
    assert sigma > 0
    assert abs(np.asarray(drawn, np.float64).mean() - float(x)) < 5 * sigma


def test_values_of_bfloat16_stay_infinities_nan_and_minus_zero_too():
    every = np.arange(2**16, dtype=np.uint16).view(BF16)
    got = np.asarray(sr(every.astype(np.float32), jax.random.key(0)))
    real = ~np.isnan(every.astype(np.float32))
    np.testing.assert_array_equal(got[real].view(np.uint16), every[real].view(np.uint16))
    assert np.all(np.isnan(got[~real].astype(np.float32)))


def test_a_finite_value_never_becomes_infinite():
    largest = np.finfo(np.float32).max
    for sign in (1, -1):
        got = sr(jnp.full(1000, sign * largest), jax.random.key(0))
        np.testing.assert_array_equal(got, np.full(1000, sign * LARGEST))


def test_float32_stays_and_other_types_are_refused():
    x = jnp.ones(3) / 3
    assert stochastic_round(x, jax.random.key(0), jnp.float32) is x
    for value, dtype in ((x, jnp.float16), (x.astype(jnp.float16), jnp.bfloat16)):
        with pytest.raises(ValueError, match="float32 is rounded to bfloat16 or float32, not"):
            stochastic_round(value, jax.random.key(0), dtype)


def test_one_and_eight_devices_round_to_the_same_bits(rng):
    weights = {"a": rng.normal(size=(64, 32)), "b": rng.normal(size=(8, 16, 4))}
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), weights)
    updates = jax.tree.map(lambda x: jnp.asarray(1e-3 * x[::-1], jnp.float32), weights)
    mesh = make_mesh(fsdp=4, tensor=2)
    spread = NamedSharding(mesh, PartitionSpec("fsdp", "tensor"))
    wanted = jax.jit(add_updates)(params, updates, jax.random.key(3))
    placed = jax.device_put((params, updates), spread)
    got = jax.jit(add_updates, out_shardings=spread)(*placed, jax.random.key(3))
    assert got["a"].addressable_shards[0].data.size == 64 * 32 // 8
    jax.tree.map(np.testing.assert_array_equal, got, wanted)
    assert float(below_ulp(*placed)) == float(below_ulp(params, updates))
    other = jax.jit(add_updates)(params, updates, jax.random.key(4))
    assert np.any(np.asarray(other["a"] != wanted["a"]))


def test_two_leaves_are_not_rounded_alike():
    same = jnp.full(1000, 1.0, jnp.bfloat16)
    step = jnp.full(1000, 2.0**-8)
    got = add_updates({"a": same, "b": same}, {"a": step, "b": step}, jax.random.key(0))
    assert 0.4 < np.mean(np.asarray(got["a"] == got["b"])) < 0.6


def test_a_thousand_small_steps_add_up_on_average_as_in_float32(rng):
    n, steps, step = 20_000, 1000, 1e-5
    start = jnp.asarray(rng.normal(scale=0.02, size=n), jnp.bfloat16)
    towards = jnp.asarray(rng.choice([-1.0, 1.0], n), jnp.float32)
    wide = start.astype(jnp.float32)

    @jax.jit
    def run(key):
        def body(w, i):
            stochastic, nearest = w
            stochastic = add_updates(stochastic, step * towards, jax.random.fold_in(key, i))
            return (stochastic, optax.apply_updates(nearest, step * towards)), nearest == start

        return jax.lax.scan(body, (start, start), jnp.arange(steps))

    (stochastic, nearest), still = run(jax.random.key(7))
    # The figure from the literature for such weights and such a step, after the first one.
    assert np.mean(np.asarray(still)[1]) == pytest.approx(0.84, abs=0.05)
    drift = np.asarray((widen(stochastic) - wide) * towards, np.float64)
    lost = np.asarray((widen(nearest) - wide) * towards, np.float64)
    # Of one rounding the variance is p (1 - p) ulp^2 <= step * ulp, and ulp <= |w| / 128.
    path = np.abs(np.asarray(wide, np.float64)) + 2 * steps * step
    sigma = np.sqrt(np.sum(steps * step * path / 128)) / n
    assert abs(drift.mean() - steps * step) < 5 * sigma < 0.02 * steps * step
    assert lost.mean() < 0.8 * steps * step


def test_the_share_of_small_steps_is_that_of_the_definition(rng):
    weights = rng.normal(size=5000).astype(BF16)
    updates = (rng.normal(size=5000) * 10.0 ** rng.uniform(-5, 0, 5000)).astype(np.float32)
    updates[:500] = 0.0
    size = np.abs(weights)
    ulp = np.nextafter(size, BF16(np.inf)).astype(np.float64) - size.astype(np.float64)
    wanted = np.mean((np.abs(updates) < ulp / 2)[500:])
    norm = {"norm": jnp.ones(3)}
    got = below_ulp({"w": jnp.asarray(weights)} | norm, {"w": jnp.asarray(updates)} | norm)
    assert got == pytest.approx(wanted, rel=1e-6)
    assert below_ulp(norm, norm) is None


def test_float32_weights_get_the_plain_sum(rng):
    w, u = (jnp.asarray(rng.normal(size=100), jnp.float32) for _ in range(2))
    np.testing.assert_array_equal(add_updates([w], [u], jax.random.key(0))[0], w + u)
