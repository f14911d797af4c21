# SPDX-License-Identifier: Apache-2.0
"""Decoders of published models have exactly the number of parameters that was published."""

import jax
import pytest

from unilogit_jax import models
from unilogit_jax.models.published import look_like, published, published_config

PUBLISHED = published()


def decoder(name):
    return models.Decoder(published_config(name))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_has_its_published_number_of_parameters(name):
    leaves = jax.tree.leaves(models.param_shapes(decoder(name)))
    assert sum(leaf.size for leaf in leaves) == PUBLISHED[name]["parameters"]


def test_every_family_has_a_published_model():
    seen = {PUBLISHED[name]["config"]["model_type"] for name in PUBLISHED}
    assert seen == set(models.FAMILIES) - {"gemma3"}, "gemma3 is gemma3_text in another folder"


def test_local_layers_and_rotary_bases_are_those_of_the_models():
    gemma3 = decoder("google/gemma-3-1b-pt").config
    assert [i for i in range(26) if not gemma3.is_local(i)] == [5, 11, 17, 23]
    assert (gemma3.rope.theta, gemma3.local_rope.theta) == (1e6, 1e4)
    gemma2 = decoder("google/gemma-2-2b").config
    assert [gemma2.is_local(i) for i in range(4)] == [True, False, True, False]
    assert (gemma2.attention_softcap, gemma2.final_softcap) == (50.0, 30.0)
    assert not any(decoder("Qwen/Qwen2.5-1.5B").config.local_layers)
    assert decoder("EleutherAI/pythia-1.4b").config.rope.fraction == 0.25


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("open-unlearning/tofu_Llama-3.2-1B-Instruct_full", "meta-llama/Llama-3.2-1B"),
        ("/weights/Llama-2-7b-chat-hf", "meta-llama/Llama-2-7b-hf"),
        ("gs://bucket/Meta-Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B"),
        ("google/gemma-2-2b-it", "google/gemma-2-2b"),
        ("google/gemma-2b-it", "google/gemma-2b"),
        ("gpt2", "openai-community/gpt2"),
        ("openai-community/gpt2-xl", None),
        ("meta-llama/Llama-3.2-11B-Vision", None),
        ("runs/1123-210400-toy", None),
    ],
)
def test_a_models_shape_is_found_by_what_its_name_contains(source, name):
    assert look_like(source) == name
