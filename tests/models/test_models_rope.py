# SPDX-License-Identifier: Apache-2.0
"""Rotary positions against float64 NumPy written from the papers, and whose length decides."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unilogit_jax import models
from unilogit_jax.models.rope import rope_frequencies, rope_table, rotate

HEAD = 32
SHORT, LONG = [1.0 + 0.1 * i for i in range(16)], [2.0 + 0.3 * i for i in range(16)]
ROPES = {
    "default": models.Rope(theta=5e5),
    "partial": models.Rope(fraction=0.4),
    "linear": models.Rope(kind="linear", factor=4.0),
    "llama3": models.Rope(kind="llama3", theta=5e5, factor=8.0, original_max_length=64),
    "yarn": models.Rope(kind="yarn", factor=4.0, original_max_length=256, attention_factor=1.14),
    "yarn, not rounded": models.Rope(
        kind="yarn",
        factor=4.0,
        original_max_length=256,
        truncate=False,
        beta_fast=16.0,
        beta_slow=2.0,
    ),
    "longrope": models.Rope(
        kind="longrope",
        original_max_length=20,
        attention_factor=1.19,
        short_factors=tuple(SHORT),
        long_factors=tuple(LONG),
    ),
    "dynamic": models.Rope(kind="dynamic", factor=2.0, original_max_length=20),
}


def by_paper(rope, length):
    """Radians per position in a text of `length` tokens, float64, one frequency at a time."""
    width = int(HEAD * rope.fraction)
    theta, original, factor = rope.theta, rope.original_max_length, rope.factor
    if rope.kind == "dynamic" and length > original:
        theta *= (factor * length / original - (factor - 1)) ** (width / (width - 2))
    frequencies = []
    for i in range(width // 2):
        f = theta ** (-2 * i / width)
        wavelength = 2 * math.pi / f
        if rope.kind == "linear":
            f /= factor
        elif rope.kind == "longrope":
            f /= (LONG if length > original else SHORT)[i]
        elif rope.kind == "llama3":
            if wavelength > original / rope.low_freq_factor:
                f /= factor
            elif wavelength > original / rope.high_freq_factor:
                smooth = original / wavelength - rope.low_freq_factor
                smooth /= rope.high_freq_factor - rope.low_freq_factor
                f = (1 - smooth) * f / factor + smooth * f
        elif rope.kind == "yarn":
            # The dimension that turns r times over the original length, equation 14 of "by parts"
            # solved for the dimension, as the authors' code interpolates.
            low, high = (
                width * math.log(original / (2 * math.pi * r)) / (2 * math.log(theta))
                for r in (rope.beta_fast, rope.beta_slow)
            )
            if rope.truncate:
                low, high = math.floor(low), math.ceil(high)
            ramp = min(1.0, max(0.0, (i - low) / (high - low)))
            f = ramp * f / factor + (1 - ramp) * f
        frequencies.append(f)
    return np.array(frequencies)


@pytest.mark.parametrize("name", ROPES)
def test_frequencies_equal_float64_numpy_written_from_the_papers(name):
    rope = ROPES[name]
    expected = by_paper(rope, length=1)
    np.testing.assert_allclose(rope_frequencies(rope, HEAD), expected, rtol=1e-7)
    plain = by_paper(models.Rope(theta=rope.theta), length=40)[: len(expected)]
    assert np.allclose(by_paper(rope, length=40), plain) == (name == "default")


@pytest.mark.parametrize("length", [15, 40])
@pytest.mark.parametrize("name", ROPES)
def test_cosine_and_sine_of_short_and_long_texts_equal_float64_numpy(name, length):
    rope = ROPES[name]
    cos, sin = rope_table(jnp.arange(length)[None], rope, HEAD, "float32")
    angles = np.arange(length)[:, None] * by_paper(rope, length)
    scale = rope.attention_factor if rope.kind in ("yarn", "longrope") else 1.0
    np.testing.assert_allclose(cos[0, :, 0], scale * np.cos(angles), atol=1e-5)
    np.testing.assert_allclose(sin[0, :, 0], scale * np.sin(angles), atol=1e-5)


def test_rotation_is_multiplication_by_a_complex_number_and_leaves_the_rest_alone(rng):
    rope, width = ROPES["partial"], 12
    x = rng.standard_normal((2, 5, 3, HEAD)).astype(np.float32)
    turned = np.asarray(
        rotate(jnp.asarray(x), *rope_table(jnp.arange(5)[None], rope, HEAD, "float32"))
    )
    angles = np.arange(5)[:, None] * by_paper(rope, 5)
    z = (x[..., :6] + 1j * x[..., 6:width]) * np.exp(1j * angles)[None, :, None]
    np.testing.assert_allclose(turned[..., :width], np.concatenate([z.real, z.imag], -1), atol=1e-6)
    np.testing.assert_array_equal(turned[..., width:], x[..., width:])


@pytest.mark.parametrize("name", ["longrope", "dynamic"])
def test_only_the_length_of_its_own_text_chooses_the_frequencies(name):
    """In packed and padded rows, beside a longer text, padding with any position: as if alone."""
    texts = ((0, 0, 48), (1, 0, 30), (2, 20, 48), (3, 0, 25), (3, 25, 40), (3, 40, 46), (4, 0, 20))
    segments = np.zeros((5, 48), np.int32)
    positions = np.broadcast_to(np.arange(48), (5, 48)) + 1000
    for number, (row, start, stop) in enumerate(texts, start=1):
        segments[row, start:stop] = number
        positions[row, start:stop] = np.arange(stop - start)
    table = jax.jit(lambda p, s=None: rope_table(p, ROPES[name], HEAD, "float32", s))
    together = table(jnp.asarray(positions), jnp.asarray(segments))
    for row, start, stop in texts:
        alone = table(jnp.arange(stop - start)[None])
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_allclose(a[row, start:stop], b[0], atol=1e-6)


def test_bfloat16_tables_are_the_rounded_float32_ones():
    positions = jnp.arange(40)[None]
    full, small = (rope_table(positions, ROPES["yarn"], HEAD, t) for t in ("float32", "bfloat16"))
    for a, b in zip(full, small, strict=True):
        assert b.dtype == jnp.bfloat16
        np.testing.assert_array_equal(a.astype(jnp.bfloat16), b)
