# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest

from unilogit_jax import models
from unilogit_jax.errors import ConfigError
from unilogit_jax.models.rope import rope_frequencies
from unilogit_jax.sharding import RULES


def test_scratch_derives_what_is_not_given():
    config = models.DecoderConfig.scratch(vocab_size=100, width=256, heads=8)
    assert (config.kv_heads, config.head_dim, config.mlp_width) == (8, 32, 672)


def test_equal_configs_are_one_key_of_a_cache():
    one, two = (models.DecoderConfig.scratch(vocab_size=100) for _ in range(2))
    assert one == two and hash(one) == hash(two)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layers": 0}, "layers must be larger than 0, got 0"),
        ({"vocab_size": -3}, "vocab_size must be larger than 0"),
        ({"heads": 4, "kv_heads": 3}, r"heads \(4\) must be a multiple of kv_heads \(3\)"),
        ({"width": 130}, r"width \(130\) is no multiple of heads \(4\)"),
        ({"head_dim": 7}, "head_dim must be even"),
        ({"block": "prae"}, "block 'prae' is unknown; known: pre, .* Did you mean 'pre'"),
        ({"local_layers": (True,)}, "local_layers has 1 entries for 2 layers"),
        ({"local_layers": (True, False)}, "local layers need a window of at least 1, got None"),
        (
            {"rope": models.Rope(kind="longrope", short_factors=(1.0,), long_factors=(1.0,))},
            "longrope of 32 rotated entries needs 16 short and 16 long factors, got 1 and 1",
        ),
        ({"dtype": "float12"}, "dtype 'float12' is unknown; known: float32, bfloat16"),
        ({"with": 3}, "model has no field 'with'. Did you mean 'width'"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        models.DecoderConfig.scratch(**({"vocab_size": 10} | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "yarm"}, "rope.kind 'yarm' is unknown; known: .* Did you mean 'yarn'"),
        ({"theta": 0.0}, "rope.theta must be larger than 0"),
        ({"kind": "llama3", "high_freq_factor": 1.0}, "must be larger than rope.low_freq_factor"),
    ],
)
def test_a_rope_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        models.Rope(**fields)


def test_llama3_frequencies_follow_the_published_rule_by_wavelength():
    rope = models.Rope(theta=5e5, kind="llama3", factor=32.0, original_max_length=8192)
    expected = []
    for i in range(64):
        frequency = 5e5 ** (-2 * i / 128)
        wavelength = 2 * np.pi / frequency
        if wavelength > 8192 / 1.0:
            frequency /= 32
        elif wavelength >= 8192 / 4.0:
            smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0)
            frequency = (1 - smooth) * frequency / 32 + smooth * frequency
        expected.append(frequency)
    np.testing.assert_allclose(rope_frequencies(rope, 128), expected, rtol=1e-6)


def test_every_parameter_has_known_logical_axes_and_no_memory_is_needed_to_learn_them():
    config = models.DecoderConfig.scratch(
        vocab_size=128256, width=8192, layers=80, heads=64, kv_heads=8, tie_embeddings=False
    )
    model = models.Decoder(config)
    shapes, axes = models.param_shapes(model), models.logical_axes(model)
    jax.tree.map(lambda leaf, names: [RULES[name] for name in names], shapes, axes)
    assert axes["layers"]["attn"]["q_proj"]["kernel"] == ("layers", "embed", "heads", "head_dim")
    assert shapes["layers"]["attn"]["o_proj"]["kernel"].shape == (80, 64, 128, 8192)
    assert jax.tree.all(jax.tree.map(lambda leaf, a: len(leaf.shape) == len(a), shapes, axes))
